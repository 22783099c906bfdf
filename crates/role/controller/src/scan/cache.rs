//! What a scanner keeps of layers: asked over its link, answered within moments.

use std::collections::BTreeMap;
use std::time::Duration;

use nv_model::name::ScannerId;
use nv_model::scan::LayerCacheFacts;
use nv_wire::scanner::v1 as proto;
use nv_wire::scanner::v1::to_scanner::Message as To;
use tokio::sync::oneshot;

use super::Scans;

/// How long a scanner may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions that may be open at one time.
const MAX_OPEN: usize = 64;

/// Why nothing is known of a scanner's layers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// No scanner of this id is linked.
    #[error("no scanner {scanner} is linked")]
    Unknown {
        /// Which one.
        scanner: ScannerId,
    },
    /// It takes nothing more, or too many questions are open.
    #[error("the scanner is too busy to be asked")]
    Busy,
    /// It did not answer in time, or its link ended.
    #[error("the scanner did not answer within {} s", PATIENCE.as_secs())]
    Silent,
}

/// Questions that are open.
#[derive(Debug, Default)]
pub(crate) struct OpenQuestions {
    last: u64,
    open: BTreeMap<u64, (ScannerId, oneshot::Sender<LayerCacheFacts>)>,
}

impl Scans {
    /// What a scanner keeps of layers; with `records` each of them.
    ///
    /// # Errors
    /// [`CacheError`].
    pub async fn layer_cache(
        &self,
        scanner: &ScannerId,
        records: bool,
    ) -> Result<LayerCacheFacts, CacheError> {
        let (reply, answer) = oneshot::channel();
        let id = {
            let mut state = self.state();
            if state.questions.open.len() >= MAX_OPEN {
                return Err(CacheError::Busy);
            }
            let id = state.questions.last.wrapping_add(1);
            let linked = state
                .scanners
                .get(scanner)
                .ok_or_else(|| CacheError::Unknown { scanner: scanner.clone() })?;
            let message = To::AskCache(proto::AskCache { id, records });
            let message = proto::ToScanner { message: Some(message) };
            linked.outbound.try_send(Ok(message)).map_err(|_full| CacheError::Busy)?;
            state.questions.last = id;
            state.questions.open.insert(id, (scanner.clone(), reply));
            id
        };
        let answered = tokio::time::timeout(PATIENCE, answer).await;
        self.state().questions.open.remove(&id);
        match answered {
            Ok(Ok(facts)) => Ok(facts),
            // Its link ended, or the time is up.
            Ok(Err(_)) | Err(_) => Err(CacheError::Silent),
        }
    }

    /// A scanner's answer; one to a question that nobody asked it is left aside.
    pub(super) fn cache_told(&self, scanner: &ScannerId, id: u64, facts: LayerCacheFacts) {
        let mut state = self.state();
        if state.questions.open.get(&id).is_some_and(|(asked, _)| asked == scanner)
            && let Some((_, reply)) = state.questions.open.remove(&id)
        {
            // Whoever asked may not wait any more.
            drop(reply.send(facts));
        }
    }
}
