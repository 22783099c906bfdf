//! A damaged store is never taken for an empty one.

#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use nv_store::{RedbStore, Store, StoreError, Transaction};

/// A store with some entries, closed.
async fn filled(directory: &Path) -> Vec<u8> {
    let store = RedbStore::open(directory).expect("a fresh directory");
    for i in 0..200 {
        let put = Transaction::new().put(format!("k/{i}"), vec![b'v'; 500]);
        store.commit(put).await.expect("there is space");
    }
    drop(store);
    fs::read(directory.join("store.redb")).expect("the store's file")
}

#[tokio::test]
async fn a_damaged_file_is_named_with_what_to_do_and_left_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let whole = filled(directory.path()).await;
    let path = directory.path().join("store.redb");
    let half = whole.len() / 2;
    let mut zeroed = whole.clone();
    zeroed[..4096].fill(0);
    let mut header = whole.clone();
    header[9..200].fill(0xFF);
    let mut pages = whole.clone();
    pages[4096..].fill(0x5A);
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("of another kind", b"hello, this is a text file and no store".to_vec()),
        ("without its first page", zeroed),
        ("with a broken header", header),
        ("cut in half", whole[..half].to_vec()),
        ("cut to a page", whole[..4096].to_vec()),
        ("with all pages overwritten", pages),
    ] {
        fs::write(&path, &bytes).unwrap();
        let error = RedbStore::open(directory.path()).expect_err(what);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&path.display().to_string()), "{what}: {text}");
        assert!(text.contains("move it away") && text.contains("restore a snapshot"), "{what}: {text}");
        assert!(fs::read(&path).unwrap() == bytes, "{what}: the file was changed");
    }
    fs::write(&path, &whole).unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    assert_eq!(store.list("k/").await.unwrap().entries.len(), 200);
}

#[tokio::test]
async fn a_flipped_bit_in_any_page_in_use_is_noticed_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let whole = filled(directory.path()).await;
    let path = directory.path().join("store.redb");
    let mut noticed = 0;
    let pages = whole.len() / 4096;
    for page in 0..pages {
        let mut bytes = whole.clone();
        bytes[page * 4096 + 777] ^= 0x04;
        fs::write(&path, &bytes).unwrap();
        match RedbStore::open(directory.path()) {
            Err(StoreError::Corrupt { .. }) => noticed += 1,
            Err(other) => panic!("page {page}: {other:?}"),
            // The page was free, or only a copy of what can be made again.
            Ok(store) => {
                let listing = store.list("k/").await.unwrap();
                assert_eq!(listing.entries.len(), 200, "page {page}");
                assert!(listing.entries.iter().all(|entry| entry.value[..] == [b'v'; 500]), "page {page}");
            }
        }
    }
    assert!(noticed > 10, "{noticed} of {pages} pages");
}

#[tokio::test]
async fn a_store_whose_file_was_moved_away_starts_empty_and_takes_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let store = RedbStore::open(directory.path()).unwrap();
    let mut snapshot = Vec::new();
    store.snapshot(&mut snapshot).await.unwrap();
    drop(store);
    fs::rename(directory.path().join("store.redb"), directory.path().join("store.bad")).unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    assert_eq!(store.list("").await.unwrap().entries, []);
    store.restore(&mut snapshot.as_slice()).await.unwrap();
    assert_eq!(store.list("k/").await.unwrap().entries.len(), 200);
}
