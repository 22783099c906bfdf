//! An image that a daemon exports as one archive, read as it comes: which layer is next is known by its digest alone, and
//! nothing of the archive is kept.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Read};

use nv_layer::{Image, LayerDigests, Members};

use crate::image::lay_over;
use crate::layer::{ImageReading, LayerRecord, keep_layer, known, read_blob};
use crate::remark::Remarks;
use crate::report::Report;

/// Gives the archive from its begin. The error is a sentence.
pub(crate) type Export<'a> = dyn Fn() -> Result<Box<dyn Read + 'a>, String> + 'a;

/// What is in an image whose layers come in one archive. Where all of them are kept, it is not asked for.
pub(crate) fn read_exported(
    export: &Export<'_>,
    image: &Image,
    how: &ImageReading<'_>,
    remarks: &mut Remarks<'_>,
) -> Report {
    let mut records: HashMap<String, LayerRecord> = HashMap::new();
    for layer in &image.layers {
        if let Some(record) = known(how, layer.digest()) {
            records.insert(layer.digest().to_owned(), record);
        }
    }
    let mut why = "it is not in what the daemon exported".to_owned();
    if image.layers.iter().any(|layer| !records.contains_key(layer.digest()))
        && let Err(reason) = read_layers(export, image, how, &mut records, remarks)
    {
        why = reason;
    }
    lay_over(image, how, remarks, &mut |layer, remarks| match records.get(layer.digest()) {
        Some(record) => (record.clone(), String::new()),
        None => {
            remarks.add(&format!("layer {}: {why}", layer.digest()));
            (LayerRecord::default(), why.clone())
        }
    })
}

/// Reads what may be a layer, and puts it to the records where it is one of the image. The error is the last reason why
/// something could not be read.
fn read_layers(
    export: &Export<'_>,
    image: &Image,
    how: &ImageReading<'_>,
    records: &mut HashMap<String, LayerRecord>,
    remarks: &mut Remarks<'_>,
) -> Result<(), String> {
    let broken = |error: io::Error| format!("the daemon's export is damaged: {error}");
    let members = RefCell::new(Members::new(export()?));
    let mut outcome = Ok(());
    loop {
        let next = members.borrow_mut().next_file().map_err(broken)?;
        let Some(path) = next else { return outcome };
        if !may_be_layer(&path, records) {
            continue;
        }
        let first = Cell::new(true);
        let open = || -> Result<Box<dyn Read + '_>, String> {
            if first.replace(false) { Ok(Box::new(Present(&members))) } else { once_more(export, &path) }
        };
        // Until it was read, nobody knows which layer it is.
        match read_blob(how, &LayerDigests::default(), &open) {
            Ok(read) if read.unread.is_empty() => {
                if image.layers.iter().any(|layer| layer.digests.archive == read.archive) {
                    keep_layer(how, &read.archive, &read.record, remarks);
                    records.insert(read.archive, read.record);
                }
            }
            Ok(read) => outcome = Err(format!("{path} in the daemon's export: {}", read.unread)),
            Err(why) => outcome = Err(format!("{path} in the daemon's export: {why}")),
        }
    }
}

/// Whether a file of the archive may be a layer that is not known yet. Releases until 24 name layers by ids of their own
/// (`ID/layer.tar`), later ones all blobs by their digests.
fn may_be_layer(path: &str, records: &HashMap<String, LayerRecord>) -> bool {
    match path.strip_prefix("blobs/sha256/") {
        Some(digits) => !records.contains_key(&format!("sha256:{digits}")),
        None => path.ends_with("/layer.tar"),
    }
}

/// The file of the archive that is being passed.
struct Present<'m, 'a>(&'m RefCell<Members<Box<dyn Read + 'a>>>);

impl Read for Present<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

/// A file of the archive, which is asked for a second time.
fn once_more<'a>(export: &Export<'a>, wanted: &str) -> Result<Box<dyn Read + 'a>, String> {
    let mut members = Members::new(export()?);
    while let Some(path) = members.next_file().map_err(|error| error.to_string())? {
        if path == wanted {
            return Ok(Box::new(members));
        }
    }
    Err(format!("{wanted} is not in the daemon's second export"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, target, content) in entries {
            let mut head = tar::Header::new_gnu();
            head.set_entry_type(*kind);
            head.set_mode(0o644);
            head.set_size(content.len() as u64);
            if target.is_empty() {
                builder.append_data(&mut head, path, *content).unwrap();
            } else {
                builder.append_link(&mut head, path, target).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    fn image(layers: &[&[u8]]) -> Image {
        use sha2::{Digest as _, Sha256};
        let mark = |layer: &&[u8]| {
            let digits: String = Sha256::digest(layer).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{digits}")
        };
        let layers: Vec<String> = layers.iter().map(mark).collect();
        let description = serde_json::json!({"Id": "sha256:00", "RootFS": {"Layers": layers}});
        Image::of_docker(description.to_string().as_bytes(), b"[]").unwrap()
    }

    fn read(export: &Export<'_>, image: &Image) -> (Vec<(String, Option<usize>)>, String) {
        let mut errors = Vec::new();
        let report = read_exported(export, image, &ImageReading::default(), &mut Remarks::new(&mut errors));
        let packages = report.packages.iter().map(|found| (found.package.name.to_string(), found.layer));
        (packages.collect(), String::from_utf8(errors).unwrap())
    }

    use tar::EntryType as T;

    #[test]
    fn layers_are_known_by_their_digests_in_whatever_order_they_come_and_one_may_be_asked_for_again() {
        let low = archive(&[
            // A name that tells nothing comes before the one that does.
            ("data", T::Regular, "", b"flask==2.0.1\n"),
            ("app/requirements.txt", T::Link, "data", b""),
        ]);
        let high = archive(&[("more/requirements.txt", T::Regular, "", b"django==4.2\n")]);
        let digits = |bytes: &[u8]| image(&[bytes]).layers[0].digest().replace("sha256:", "blobs/sha256/");
        let old = archive(&[
            ("b/layer.tar", T::Regular, "", &high),
            ("a/json", T::Regular, "", b"{}"),
            ("a/layer.tar", T::Regular, "", &low),
            ("manifest.json", T::Regular, "", b"[]"),
        ]);
        let new = archive(&[
            ("blobs/sha256/00", T::Regular, "", b"{\"a document\": true}"),
            (&digits(&high), T::Regular, "", &high),
            (&digits(&low), T::Regular, "", &low),
        ]);
        let want = [("flask".to_owned(), Some(0)), ("django".to_owned(), Some(1))];
        for export in [&old, &new] {
            let asked = Cell::new(0);
            let give = || -> Result<Box<dyn Read>, String> {
                asked.set(asked.get() + 1);
                Ok(Box::new(io::Cursor::new(export.clone())))
            };
            let (packages, said) = read(&give, &image(&[&low, &high]));
            assert_eq!((packages.as_slice(), said.as_str()), (&want[..], ""));
            assert_eq!(asked.get(), 2, "once, and once more for the file with two names");
        }
    }

    #[test]
    fn a_layer_that_is_not_exported_or_damaged_is_told_and_hides_no_other() {
        let low = archive(&[("app/requirements.txt", T::Regular, "", b"flask==2.0.1\n")]);
        let high = archive(&[("more/requirements.txt", T::Regular, "", b"django==4.2\n")]);
        let wanted = image(&[&low, &high]);
        let damaged: Vec<u8> = high.iter().map(|byte| byte ^ 1).collect();
        for (second, says) in [
            (("z/VERSION", &b"1.0"[..]), "not in what the daemon exported"),
            (("z/layer.tar", &damaged[..]), "z/layer.tar in the daemon's export: it is damaged"),
        ] {
            let export =
                archive(&[("a/layer.tar", T::Regular, "", &low), (second.0, T::Regular, "", second.1)]);
            let give = || -> Result<Box<dyn Read>, String> { Ok(Box::new(io::Cursor::new(export.clone()))) };
            let (packages, said) = read(&give, &wanted);
            assert_eq!(packages, [("flask".to_owned(), Some(0))]);
            assert!(said.contains(says), "{said}");
        }
        let refused = || -> Result<Box<dyn Read>, String> { Err("the daemon is gone".to_owned()) };
        let (packages, said) = read(&refused, &wanted);
        assert!(packages.is_empty() && said.matches("the daemon is gone").count() == 2, "{said}");
    }
}
