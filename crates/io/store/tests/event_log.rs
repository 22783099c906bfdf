//! What a user of the event log relies on.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nv_model::record::{Event, Incident, Record, Topic, Violation};
use nv_model::time::Timestamp;
use nv_store::{EventLog, Retention, StoreError};
use nv_telemetry::ManualClock;
use tokio::sync::broadcast::error::RecvError;

fn record(i: u64) -> Record {
    match i % 3 {
        0 => Record::Event(Box::new(Event { message: format!("event {i}"), ..Event::default() })),
        1 => Record::Incident(Box::new(Incident { message: format!("incident {i}"), ..Incident::default() })),
        _ => Record::Violation(Box::new(Violation { id: format!("violation {i}"), ..Violation::default() })),
    }
}

fn records(range: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    range.map(record).collect()
}

fn small() -> Retention {
    Retention { max_age: Duration::from_secs(3600), max_bytes: 1024 * 1024 }
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        all.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

fn sequences<T>(records: &[(u64, T)]) -> Vec<u64> {
    records.iter().map(|(sequence, _)| *sequence).collect()
}

#[tokio::test]
async fn records_have_sequences_from_one_and_are_paged_by_topic_newest_first() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    assert!(log.is_empty());
    assert_eq!(log.append(&[]).unwrap(), 0);
    assert_eq!(log.append(&records(1..=50)).unwrap(), 50);
    assert_eq!(log.append(&records(51..=90)).unwrap(), 90);
    assert_eq!((log.len(Topic::Event), log.len(Topic::Threat), log.last_sequence()), (30, 0, 90));
    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let page = log.read(Topic::Incident, before, 7).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        before = Some(*last);
        paged.extend(page);
    }
    assert_eq!(sequences(&paged), (1..=90).rev().filter(|i| i % 3 == 1).collect::<Vec<_>>());
    assert!(paged.iter().all(|(sequence, found)| *found == record(*sequence)));
    assert_eq!(log.read(Topic::Threat, None, 10).await.unwrap(), []);
    assert_eq!(sequences(&log.since(87, 100).await.unwrap()), [88, 89, 90]);
    assert_eq!(sequences(&log.since(0, 2).await.unwrap()), [1, 2]);
    assert_eq!(log.since(90, 10).await.unwrap(), []);
    assert_eq!(log.get(42).await.unwrap(), Some(record(42)));
    assert_eq!((log.get(0).await.unwrap(), log.get(91).await.unwrap()), (None, None));
}

#[tokio::test]
async fn everything_is_there_after_a_restart_also_without_index_files() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), small()).unwrap();
    for i in 1..=1500 {
        log.append(&[record(i)]).unwrap();
    }
    drop(log);
    assert!(files(directory.path(), "log").len() > 3, "this test is about several segments");
    for index in ["kept", "removed", "damaged"] {
        for path in files(directory.path(), "idx") {
            match index {
                "removed" => fs::remove_file(path).unwrap(),
                "damaged" => fs::write(path, b"NVINDEX1 and then nothing that makes sense").unwrap(),
                _ => {}
            }
        }
        let log = EventLog::open(directory.path(), small()).unwrap();
        assert_eq!(log.last_sequence(), 1500, "indexes {index}");
        assert_eq!(log.len(Topic::Violation), 500, "indexes {index}");
        let all = log.since(0, 10_000).await.unwrap();
        assert_eq!(sequences(&all), (1..=1500).collect::<Vec<_>>(), "indexes {index}");
        assert!(all.iter().all(|(sequence, found)| *found == record(*sequence)));
        assert_eq!(log.counters().damaged + log.counters().damaged_segments, 0);
    }
    let log = EventLog::open(directory.path(), small()).unwrap();
    assert_eq!(log.append(&[record(1501)]).unwrap(), 1501);
}

#[tokio::test]
async fn a_last_append_that_was_cut_short_is_taken_off_and_the_rest_stays() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    log.append(&records(1..=10)).unwrap();
    drop(log);
    let segment = files(directory.path(), "log").pop().unwrap();
    let whole = fs::read(&segment).unwrap();
    for cut in [1, 20, 200] {
        fs::write(&segment, &whole[..whole.len() - cut]).unwrap();
        let log = EventLog::open(directory.path(), Retention::default()).unwrap();
        assert_eq!(log.last_sequence(), 9, "cut by {cut}");
        assert!(log.counters().torn_bytes > 0);
        assert_eq!(log.append(&[record(10)]).unwrap(), 10);
        assert_eq!(sequences(&log.since(0, 100).await.unwrap()), (1..=10).collect::<Vec<_>>());
        assert_eq!(log.counters().damaged, 0);
    }
}

#[tokio::test]
async fn a_damaged_segment_costs_its_own_records_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), small()).unwrap();
    for i in 1..=1500 {
        log.append(&[record(i)]).unwrap();
    }
    drop(log);
    let segments = files(directory.path(), "log");
    // One with zeroes in its middle under an index that is right, one of garbage, one that is gone.
    let mut bytes = fs::read(&segments[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 2000].fill(0);
    fs::write(&segments[1], bytes).unwrap();
    fs::write(&segments[2], vec![0xAA; 5000]).unwrap();
    fs::remove_file(&segments[3]).unwrap();
    let log = EventLog::open(directory.path(), small()).unwrap();
    assert_eq!(log.counters().damaged_segments, 1);
    let all = log.since(0, 10_000).await.unwrap();
    assert!(log.counters().damaged >= 1);
    assert!(all.iter().all(|(sequence, found)| *found == record(*sequence)));
    let first_of = |path: &Path| -> u64 {
        path.file_stem().unwrap().to_str().unwrap().strip_prefix("events-").unwrap().parse().unwrap()
    };
    let (two, three, five) = (first_of(&segments[1]), first_of(&segments[2]), first_of(&segments[4]));
    let found = sequences(&all);
    assert!((1..two).chain(five..=1500).all(|sequence| found.binary_search(&sequence).is_ok()));
    let in_second = found.iter().filter(|sequence| (two..three).contains(sequence)).count() as u64;
    assert!(in_second >= three - two - 8, "{in_second} of {} are left in the second segment", three - two);
    assert!(!found.iter().any(|sequence| (three..five).contains(sequence)));
    assert_eq!(log.append(&[record(1501)]).unwrap(), 1501);
}

#[tokio::test]
async fn an_unreadable_last_segment_is_set_aside_and_its_sequences_are_not_given_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    log.append(&records(1..=10)).unwrap();
    drop(log);
    let segment = files(directory.path(), "log").pop().unwrap();
    let length = fs::metadata(&segment).unwrap().len();
    fs::write(&segment, vec![0x55; usize::try_from(length).unwrap()]).unwrap();
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    assert_eq!(log.counters().damaged_segments, 1);
    assert_eq!(files(directory.path(), "damaged").len(), 1);
    assert!(log.append(&[record(11)]).unwrap() > 10);
    assert_eq!(log.since(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_oldest_segments_go_when_the_log_is_too_large_and_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), small()).unwrap();
    for i in 1..=6000 {
        log.append(&[record(i)]).unwrap();
    }
    assert!(log.bytes() <= 1024 * 1024, "{} bytes", log.bytes());
    let on_disk: u64 = files(directory.path(), "log").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(on_disk, log.bytes());
    let left = log.since(0, 10_000).await.unwrap();
    let retired = log.counters().retired;
    assert!(retired > 0);
    assert_eq!(sequences(&left), (retired + 1..=6000).collect::<Vec<_>>());
    let counted: u64 = Topic::ALL.iter().map(|topic| log.len(*topic)).sum();
    assert_eq!(counted, left.len() as u64);
    assert_eq!(log.get(1).await.unwrap(), None);
}

#[tokio::test]
async fn records_go_by_age() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000)));
    let log = EventLog::open_with(directory.path(), small(), clock.clone()).unwrap();
    for i in 1..=10 {
        log.append(&[record(i)]).unwrap();
        clock.advance(Duration::from_secs(600));
    }
    let left = log.since(0, 100).await.unwrap();
    // An hour, and up to an eighth more.
    assert!((6..=8).contains(&left.len()), "{:?}", sequences(&left));
    assert_eq!(left.last().unwrap().0, 10);
    drop(log);
    clock.advance(Duration::from_secs(10 * 3600));
    let log = EventLog::open_with(directory.path(), small(), clock).unwrap();
    assert_eq!(log.append(&[record(11)]).unwrap(), 11);
    assert_eq!(sequences(&log.since(0, 100).await.unwrap()), [11]);
}

#[tokio::test]
async fn a_subscriber_sees_every_record_and_one_that_lags_is_told_and_reads_on() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    log.append(&[record(1)]).unwrap();
    let mut subscriber = log.subscribe();
    log.append(&records(2..=4)).unwrap();
    for want in 2..=4 {
        let (sequence, found) = subscriber.recv().await.unwrap();
        assert_eq!((sequence, &*found), (want, &record(want)));
    }
    for i in 5..=3000 {
        log.append(&[record(i)]).unwrap();
    }
    assert!(matches!(subscriber.recv().await, Err(RecvError::Lagged(_))));
    let missed = log.since(4, 10_000).await.unwrap();
    assert_eq!(sequences(&missed), (5..=3000).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_append_is_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    let large = Event { message: "x".repeat(nv_store::log::MAX_RECORD_BYTES), ..Event::default() };
    let refused = log.append(&[record(1), Record::Event(Box::new(large))]);
    assert!(matches!(refused, Err(StoreError::Record { topic: "event", .. })), "{refused:?}");
    assert_eq!((log.last_sequence(), log.bytes()), (0, 0));
    assert_eq!(log.append(&[record(1)]).unwrap(), 1);
    log.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_from_many_tasks_have_no_gap_and_readers_see_them_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), small()).unwrap();
    let writers: Vec<_> = (0..4_u64)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                for i in 0..200 {
                    log.append(&[record(writer * 1000 + i)]).unwrap();
                    if i % 50 == 0 {
                        log.flush().await.unwrap();
                    }
                    if i % 20 == 0 {
                        let newest = log.read(Topic::Event, None, 5).await.unwrap();
                        assert!(newest.windows(2).all(|pair| pair[0].0 > pair[1].0));
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(sequences(&log.since(0, 10_000).await.unwrap()), (1..=800).collect::<Vec<_>>());
}

#[test]
fn a_second_process_is_told_that_the_log_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), Retention::default()).unwrap();
    let refused = EventLog::open(directory.path(), Retention::default());
    assert!(matches!(refused, Err(StoreError::InUse { process: Some(_), .. })), "{refused:?}");
    drop(log);
    assert!(EventLog::open(directory.path(), Retention::default()).is_ok());
}
