use proptest::prelude::*;

use super::*;

/// A header blob with these tags; numbers as INT32, text as STRING.
fn header_blob(tags: &[(u32, Result<u32, &str>)]) -> Vec<u8> {
    let mut index = Vec::new();
    let mut data = Vec::new();
    for (tag, value) in tags {
        let kind: u32 = if value.is_ok() { 4 } else { 6 };
        index.extend(tag.to_be_bytes());
        index.extend(kind.to_be_bytes());
        index.extend((data.len() as u32).to_be_bytes());
        index.extend(1_u32.to_be_bytes());
        match value {
            Ok(number) => data.extend(number.to_be_bytes()),
            Err(text) => {
                data.extend(text.as_bytes());
                data.push(0);
            }
        }
    }
    let mut blob = (tags.len() as u32).to_be_bytes().to_vec();
    blob.extend((data.len() as u32).to_be_bytes());
    blob.extend(index);
    blob.extend(data);
    blob
}

fn bash() -> Vec<u8> {
    header_blob(&[
        (1000, Err("bash")),
        (1001, Err("4.4.20")),
        (1002, Err("5.el8")),
        (1003, Ok(2)),
        (1022, Err("x86_64")),
        (1044, Err("bash-4.4.20-5.el8.src.rpm")),
        (5096, Err("shells:4:8050020220202130602:c5368500")),
    ])
}

fn key() -> Vec<u8> {
    header_blob(&[(1000, Err("gpg-pubkey")), (1001, Err("1")), (1002, Err("1"))])
}

/// An ndb file with these blobs.
fn ndb_file(blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0; 4096];
    file[..4].copy_from_slice(b"RpmP");
    file[12] = 1;
    for slot in file[32..].chunks_exact_mut(16) {
        slot[..4].copy_from_slice(b"Slot");
    }
    for (at, blob) in blobs.iter().enumerate() {
        let number = at as u32 + 1;
        let block = (file.len() / 16) as u32;
        let slot = 32 + at * 16;
        file[slot + 4..slot + 8].copy_from_slice(&number.to_le_bytes());
        file[slot + 8..slot + 12].copy_from_slice(&block.to_le_bytes());
        file.extend(b"BlbS");
        file.extend(number.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend((blob.len() as u32).to_le_bytes());
        file.extend(blob);
        file.resize(file.len().next_multiple_of(16), 0);
    }
    file
}

/// A Berkeley DB hash with pages of 512 bytes whose values are in overflow pages.
fn bdb_file(blobs: &[Vec<u8>]) -> Vec<u8> {
    const PAGE: usize = 512;
    let mut file = vec![0; PAGE * 2];
    file[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
    file[20..24].copy_from_slice(&(PAGE as u32).to_le_bytes());
    file[PAGE + 20..PAGE + 22].copy_from_slice(&(blobs.len() as u16 * 2).to_le_bytes());
    file[PAGE + 25] = 13;
    let mut end = PAGE;
    for (at, blob) in blobs.iter().enumerate() {
        let mut put = |entry: usize, item: &[u8], file: &mut Vec<u8>| {
            end -= item.len();
            let pointer = PAGE + 26 + entry * 2;
            file[pointer..pointer + 2].copy_from_slice(&(end as u16).to_le_bytes());
            file[PAGE + end..PAGE + end + item.len()].copy_from_slice(item);
        };
        put(at * 2, &[1, 9, 0, 0, 0], &mut file);
        let mut item = vec![3, 0, 0, 0];
        item.extend(((file.len() / PAGE) as u32).to_le_bytes());
        item.extend((blob.len() as u32).to_le_bytes());
        put(at * 2 + 1, &item, &mut file);
        let chunks: Vec<_> = blob.chunks(PAGE - 26).collect();
        for (number, chunk) in chunks.iter().enumerate() {
            let mut page = vec![0; PAGE];
            if number + 1 < chunks.len() {
                let next = (file.len() / PAGE) as u32 + 1;
                page[16..20].copy_from_slice(&next.to_le_bytes());
            }
            page[22..24].copy_from_slice(&(chunk.len() as u16).to_le_bytes());
            page[25] = 7;
            page[26..26 + chunk.len()].copy_from_slice(chunk);
            file.extend(page);
        }
    }
    let last = (file.len() / PAGE - 1) as u32;
    file[32..36].copy_from_slice(&last.to_le_bytes());
    file
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = vec![(value & 0x7f) as u8];
    while value > 0x7f {
        value >>= 7;
        bytes.insert(0, (value & 0x7f) as u8 | 0x80);
    }
    bytes
}

/// A SQLite file with pages of 512 bytes: the schema, and one leaf with a row whose blob overflows.
fn sqlite_file(blob: &[u8]) -> Vec<u8> {
    const PAGE: usize = 512;
    let mut file = vec![0; PAGE * 2];
    file[..16].copy_from_slice(SQLITE_MAGIC);
    file[16..18].copy_from_slice(&(PAGE as u16).to_be_bytes());
    let leaf = |page: &mut [u8], start: usize, cell: &[u8]| {
        let at = PAGE - cell.len();
        page[start] = 0x0d;
        page[start + 3..start + 5].copy_from_slice(&1_u16.to_be_bytes());
        page[start + 8..start + 10].copy_from_slice(&(at as u16).to_be_bytes());
        page[at..].copy_from_slice(cell);
    };
    let mut schema = vec![6, 23, 29, 29, 1, 13];
    schema.extend(b"tablePackagesPackages\x02");
    let mut cell = vec![schema.len() as u8, 1];
    cell.extend(schema);
    leaf(&mut file[..PAGE], 100, &cell);

    let mut kinds = varint(0);
    kinds.extend(varint(blob.len() * 2 + 12));
    let mut record = varint(kinds.len() + 1);
    record.extend(kinds);
    record.extend(blob);
    let mut cell = varint(record.len());
    cell.push(1);
    let (most, least) = (PAGE - 35, (PAGE - 12) * 32 / 255 - 23);
    let local = if record.len() <= most {
        record.len()
    } else {
        let kept = least + (record.len() - least) % (PAGE - 4);
        if kept <= most { kept } else { least }
    };
    cell.extend(&record[..local]);
    if local < record.len() {
        cell.extend(3_u32.to_be_bytes());
    }
    leaf(&mut file[PAGE..], 0, &cell);
    let chunks: Vec<_> = record[local..].chunks(PAGE - 4).collect();
    for (number, chunk) in chunks.iter().enumerate() {
        let next = if number + 1 < chunks.len() { number as u32 + 4 } else { 0 };
        file.extend(next.to_be_bytes());
        file.extend(*chunk);
        file.resize(file.len().next_multiple_of(PAGE), 0);
    }
    file
}

fn big(name: &str) -> Vec<u8> {
    let text = "x".repeat(3000);
    header_blob(&[(1000, Err(name)), (1001, Err("1")), (1002, Err("2")), (1004, Err(&text))])
}

#[test]
fn a_header_gives_name_epoch_version_release_source_and_module() {
    let package = header::parse(&bash()).unwrap().unwrap();
    assert_eq!((&*package.name, &*package.version), ("bash", "2:4.4.20-5.el8"));
    let source = package.source.unwrap();
    assert_eq!((&*source.name, source.version.as_deref()), ("bash", Some("4.4.20-5.el8")));
    assert_eq!(package.module.as_deref(), Some("shells:4"));
    assert_eq!(header::parse(&key()), Ok(None));
}

#[test]
fn a_package_tells_its_files_by_folder_and_its_licence() {
    let data = b"/usr/bin/\0/etc/\0bash\0bashrc\0\0\0\0\0\0\0\0\x01GPLv3+\0";
    let tags: [(u32, u32, u32, u32); 7] = [
        (1118, 8, 0, 2),
        (1117, 8, 16, 2),
        (1116, 4, 28, 2),
        (1014, 6, 36, 1),
        (1000, 6, 16, 1),
        (1001, 6, 16, 1),
        (1002, 6, 16, 1),
    ];
    let mut blob = (tags.len() as u32).to_be_bytes().to_vec();
    blob.extend((data.len() as u32).to_be_bytes());
    for (tag, kind, offset, count) in tags {
        blob.extend([tag, kind, offset, count].iter().flat_map(|field| field.to_be_bytes()));
    }
    blob.extend(data);
    assert_eq!(header::files(&blob), ["usr/bin/bash", "etc/bashrc"]);
    assert_eq!(header::parse(&blob).unwrap().unwrap().licence.as_deref(), Some("GPLv3+"));
    assert_eq!(files(&ndb_file(&[blob.clone()]), &[]), ["usr/bin/bash", "etc/bashrc"]);
    assert_eq!(header::files(&blob[..40]), Vec::<String>::new());
}

#[test]
fn a_header_that_lies_about_its_size_is_refused() {
    let mut blob = bash();
    blob[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(header::parse(&blob), Err(header::HeaderError::Size { .. })));
    let blob = bash();
    assert!(matches!(header::parse(&blob[..blob.len() - 1]), Err(header::HeaderError::Short { .. })));
}

#[test]
fn every_format_gives_its_packages_and_long_headers_are_put_together_again() {
    let blobs = [bash(), key(), big("large")];
    for (format, file) in [("ndb", ndb_file(&blobs)), ("bdb", bdb_file(&blobs))] {
        let found = parse_database(&file, &[]);
        assert_eq!(found.faults, [], "{format}");
        let names: Vec<_> = found.packages.iter().map(|p| &*p.name).collect();
        assert_eq!(names, ["bash", "large"], "{format}");
    }
    for blob in [bash(), big("large")] {
        let found = parse_database(&sqlite_file(&blob), &[]);
        assert_eq!((found.packages.len(), found.faults.as_slice()), (1, [].as_slice()));
    }
}

#[test]
fn a_bad_package_hides_no_other() {
    let mut broken = bash();
    broken[0] = 0xff;
    let found = parse_database(&ndb_file(&[broken, big("good")]), &[]);
    assert_eq!((found.packages.len(), found.fault_count), (1, 1));
    assert!(found.faults[0].place.contains("slot 2"), "{}", found.faults[0]);
}

#[test]
fn a_chain_of_pages_in_a_circle_ends() {
    let mut file = bdb_file(&[big("circle")]);
    // The first overflow page points to itself, and every page says it is empty.
    for page in 2..file.len() / 512 {
        file[page * 512 + 16..page * 512 + 20].copy_from_slice(&2_u32.to_le_bytes());
        file[page * 512 + 22..page * 512 + 24].copy_from_slice(&0_u16.to_le_bytes());
    }
    assert_eq!(parse_database(&file, &[]).fault_count, 1);
    let mut file = sqlite_file(&big("circle"));
    let root = file.len();
    file.resize(root + 512, 0);
    // The table's root is an interior page that points to itself.
    file[512] = 0x05;
    file[520..524].copy_from_slice(&2_u32.to_be_bytes());
    assert_eq!(parse_database(&file, &[]).fault_count, 1);
}

/// A write-ahead log that replaces the second page; `commit` says whether the frame ends a transaction.
fn wal_file(page: &[u8], commit: bool) -> Vec<u8> {
    let sum = |bytes: &[u8], mut s: (u32, u32)| {
        for pair in bytes.chunks_exact(8) {
            s.0 = s.0.wrapping_add(u32::from_be_bytes(pair[..4].try_into().unwrap())).wrapping_add(s.1);
            s.1 = s.1.wrapping_add(u32::from_be_bytes(pair[4..].try_into().unwrap())).wrapping_add(s.0);
        }
        s
    };
    let mut wal = Vec::new();
    for word in [0x377f_0683_u32, 3_007_000, 512, 0, 7, 9] {
        wal.extend(word.to_be_bytes());
    }
    let mut s = sum(&wal, (0, 0));
    wal.extend(s.0.to_be_bytes());
    wal.extend(s.1.to_be_bytes());
    let mut head = 2_u32.to_be_bytes().to_vec();
    head.extend((if commit { 2_u32 } else { 0 }).to_be_bytes());
    s = sum(page, sum(&head, s));
    wal.extend(head);
    for word in [7, 9, s.0, s.1] {
        wal.extend(word.to_be_bytes());
    }
    wal.extend(page);
    wal
}

#[test]
fn committed_pages_of_a_write_ahead_log_are_newer_than_the_file() {
    let old = sqlite_file(&bash());
    let zsh = header_blob(&[(1000, Err("zsh")), (1001, Err("5")), (1002, Err("1"))]);
    let new = sqlite_file(&zsh);
    let name = |wal: &[u8]| parse_database(&old, wal).packages[0].name.to_string();
    assert_eq!(name(&[]), "bash");
    assert_eq!(name(&wal_file(&new[512..1024], true)), "zsh");
    assert_eq!(name(&wal_file(&new[512..1024], false)), "bash");
    let mut torn = wal_file(&new[512..1024], true);
    *torn.last_mut().unwrap() ^= 1;
    assert_eq!(name(&torn), "bash");
}

proptest! {
    #[test]
    fn any_bytes_behind_a_magic_give_packages_or_faults(
        which in 0..3_usize,
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut file = match which {
            0 => b"SQLite format 3\0\x02\0".to_vec(),
            1 => b"RpmP\0\0\0\0\0\0\0\0\x01\0\0\0".to_vec(),
            _ => bdb_file(&[])[..64].to_vec(),
        };
        file.extend(bytes);
        parse_database(&file, &[]);
    }

    #[test]
    fn a_database_with_flipped_bytes_gives_packages_or_faults(
        which in 0..3_usize,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut file = match which {
            0 => sqlite_file(&big("large")),
            1 => ndb_file(&[bash(), big("large")]),
            _ => bdb_file(&[bash(), big("large")]),
        };
        for (at, value) in flips {
            let at = at.index(file.len());
            file[at] = value;
        }
        parse_database(&file, &wal_file(&[0; 512], true));
    }

    #[test]
    fn any_bytes_are_a_header_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _either = header::parse(&bytes);
    }
}
