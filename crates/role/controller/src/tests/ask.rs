//! Questions to nodes.

use nv_model::question::{Answer, AnswerError, ProcessEntry, Question};

use super::sim::{Disk, Running, Sim, joined, node_id};
use crate::AskError;

const HISTORY: Question = Question::Processes { workload: None, history: true };

async fn linked(running: &Running) -> Sim {
    let credential = joined(running, "n1").await;
    Sim::open(running, &credential, Disk::new("n1", vec![])).await.unwrap()
}

/// Asks beside the test, which goes on as the node.
fn ask(running: &Running, question: Question) -> tokio::task::JoinHandle<Result<Answer, AskError>> {
    let controller = running.controller.clone();
    tokio::spawn(async move { controller.ask(&node_id("n1"), question).await })
}

#[tokio::test]
async fn whoever_asks_gets_the_answer_to_that_question_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let mut node = linked(&running).await;
    let first = ask(&running, HISTORY);
    let (first_id, question) = node.question().await;
    assert_eq!(question, Some(HISTORY));
    let second = ask(&running, Question::Counters);
    let (second_id, _) = node.question().await;
    node.answer(second_id, Err(AnswerError::UnknownQuestion)).await;
    let shell =
        Answer::Processes(vec![ProcessEntry { pid: 7, name: "sh".into(), ..ProcessEntry::default() }]);
    node.answer(first_id, Ok(shell.clone())).await;
    assert_eq!(first.await.unwrap(), Ok(shell));
    let refused = AskError::Node { node: node_id("n1"), source: AnswerError::UnknownQuestion };
    assert_eq!(second.await.unwrap(), Err(refused));
}

#[tokio::test]
async fn a_node_that_is_out_of_touch_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let gone = Err(AskError::NotConnected { node: node_id("n1") });
    assert_eq!(running.controller.ask(&node_id("n1"), HISTORY).await, gone);
    let mut node = linked(&running).await;
    let waiting = ask(&running, HISTORY);
    node.question().await;
    drop(node);
    assert_eq!(waiting.await.unwrap(), Err(AskError::Lost { node: node_id("n1") }));
}

#[tokio::test]
async fn too_many_waiting_questions_are_refused_until_those_who_asked_give_up() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let mut node = linked(&running).await;
    let mut waiting = Vec::new();
    for _ in 0..32 {
        waiting.push(ask(&running, HISTORY));
        node.question().await;
    }
    let busy = Err(AskError::Busy { node: node_id("n1") });
    assert_eq!(running.controller.ask(&node_id("n1"), HISTORY).await, busy);
    for one in waiting {
        one.abort();
        assert!(one.await.unwrap_err().is_cancelled());
    }
    let next = ask(&running, HISTORY);
    let (id, _) = node.question().await;
    node.answer(id, Ok(Answer::Cleared { count: 0 })).await;
    assert_eq!(next.await.unwrap(), Ok(Answer::Cleared { count: 0 }));
}
