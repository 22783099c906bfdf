//! What a parser is given to tell with.

use nv_model::application::ApplicationId;

use crate::attack::sql;
use crate::content::{Content, Part};
use crate::event::{Event, Field, Kind, SessionId, Sink, Value};
use crate::key::{Endpoints, Side};
use crate::threat::Threat;

/// What a parser may use and tell.
pub(crate) struct Context<'c> {
    pub(crate) at: u64,
    pub(crate) session: SessionId,
    pub(crate) endpoints: Endpoints,
    pub(crate) side: Side,
    pub(crate) application: &'c mut u32,
    pub(crate) scratch: &'c mut Vec<u8>,
    pub(crate) sink: &'c mut dyn Sink,
}

impl Context<'_> {
    fn tell(&mut self, kind: Kind<'_>) {
        self.sink.event(&Event { at: self.at, session: self.session, kind });
    }
    /// Tells some of a message, for whoever looks for patterns.
    pub(crate) fn content(&mut self, transaction: u32, part: Part<'_>) {
        let (at, session, endpoints, side) = (self.at, self.session, self.endpoints, self.side);
        self.sink.content(&Content { at, session, endpoints, side, transaction, part });
    }
    pub(crate) fn text(&mut self, field: Field, transaction: u32, value: &[u8]) {
        self.tell(Kind::Field { transaction, field, value: Value::Text(value) });
    }
    pub(crate) fn number(&mut self, field: Field, transaction: u32, value: u64) {
        self.tell(Kind::Field { transaction, field, value: Value::Number(value) });
    }
    pub(crate) fn value(&mut self, field: Field, transaction: u32, value: Value<'_>) {
        self.tell(Kind::Field { transaction, field, value });
    }
    pub(crate) fn threat(&mut self, threat: Threat) {
        let (endpoints, side) = (Some(self.endpoints), self.side);
        self.tell(Kind::Threat { threat, endpoints, side });
    }
    /// Tells a statement of SQL, and whether a value has changed it.
    pub(crate) fn statement(&mut self, transaction: u32, statement: &[u8]) {
        self.text(Field::Statement, transaction, statement);
        if sql::is_injected(statement) {
            self.threat(Threat::SqlInjection);
        }
    }
    /// The application is known better than by its protocol.
    pub(crate) fn identified(&mut self, application: u32) {
        if *self.application != application {
            *self.application = application;
            self.tell(Kind::Identified(ApplicationId(application)));
        }
    }
    pub(crate) fn software(&mut self, application: u32) {
        self.tell(Kind::Software(ApplicationId(application)));
    }
}
