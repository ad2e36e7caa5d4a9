//! `/api/events`: what changes, as server-sent events.
//!
//! A reader gets the grid as it is and then every change. With `Last-Event-ID` it first gets what has numbers and came
//! after: bulletins that are still on the board, and the newest events; where events are left out, a `gap` says which.
//! A reader that does not read is cut off, its connection with it, and may come back with its last id.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use orbit_identity::Place;
use orbit_shared::bulletin::BulletinFilter;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::frame::{Cursor, Frame, Topic};
use super::hub::Joined;
use super::link::Link;
use super::problem::of_status;
use super::{Http, pairs};
use crate::core::limits::BULLETINS_MAX;
use crate::core::{Refusal, Violation};
use crate::grpc::convert;
use crate::grpc::status::refused;

/// Frames between the hub's ring and the connection.
const BUFFER: usize = 16;
/// How long a reader may leave a frame unread.
const PATIENCE: Duration = Duration::from_secs(10);
/// A line that says nothing goes out this often, so that both ends notice when the other is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Events of the moment before that a new reader is given, so that it sees what goes on.
const PRELUDE: u64 = 40;
/// Old events that a reader is given who comes back.
const CAUGHT_UP_MAX: usize = 1000;

/// The stream.
pub(super) async fn stream(
    State(http): State<Http>,
    Extension(link): Extension<Link>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let asked = match Asked::read(query.as_deref(), &headers) {
        Ok(asked) => asked,
        Err(violations) => return of_status(&refused(Refusal::Invalid(violations))),
    };
    let place = match http.shares.streams.enter(Some(&link)) {
        Ok(place) => place,
        Err(refusal) => return *refusal,
    };
    let Some(joined) = http.hub.join().await else { return of_status(&crate::grpc::status::stopping()) };
    let (sender, receiver) = mpsc::channel(BUFFER);
    let reader = Reader { asked, sender, link, _place: place };
    tokio::spawn(async move {
        let stop = http.faces.stop.clone();
        stop.run_until_cancelled(reader.feed(&http, joined)).await;
    });
    let body = ReceiverStream::new(receiver).map(Ok::<Bytes, std::convert::Infallible>);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy that gathers the stream would make it late.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

/// What a reader wants.
struct Asked {
    topics: BTreeSet<Topic>,
    after: Option<Cursor>,
}

impl Asked {
    fn read(query: Option<&str>, headers: &HeaderMap) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let mut topics = BTreeSet::new();
        let mut after = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        for (name, text) in pairs(query) {
            match name.as_str() {
                "topics" => {
                    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                        match Topic::ALL.iter().find(|(name, _)| *name == word) {
                            Some((_, topic)) => drop(topics.insert(*topic)),
                            None => violations.push(Violation::new("topics", unknown_topic(word))),
                        }
                    }
                }
                "last_event_id" => after = Some(text),
                _ => violations.push(Violation::new(
                    name,
                    "is not known; there are topics and last_event_id".to_owned(),
                )),
            }
        }
        if topics.is_empty() {
            topics = Topic::ALL.iter().map(|(_, topic)| *topic).collect();
        }
        let after = after.filter(|id| !id.is_empty()).and_then(|id| {
            let cursor = id.split_once('-').and_then(|(bulletin, event)| {
                Some(Cursor { bulletin: bulletin.parse().ok()?, event: event.parse().ok()? })
            });
            if cursor.is_none() {
                let problem =
                    format!("is {id:?}, which is no id of this stream; leave it out to begin again");
                violations.push(Violation::new("last_event_id", problem));
            }
            cursor
        });
        if violations.is_empty() { Ok(Self { topics, after }) } else { Err(violations) }
    }
}

fn unknown_topic(word: &str) -> String {
    let known: Vec<&str> = Topic::ALL.iter().map(|(name, _)| *name).collect();
    format!("has {word:?}; there are {}", known.join(", "))
}

/// One reader's end of the stream.
struct Reader {
    asked: Asked,
    sender: mpsc::Sender<Bytes>,
    link: Link,
    _place: Place,
}

/// The reader has gone away or was cut off.
struct Gone;

impl Reader {
    async fn feed(self, http: &Http, joined: Joined) {
        // An end by itself would look to a browser like any other; it comes back by its own.
        let _: Result<(), Gone> = self.feed_until_gone(http, joined).await;
    }

    async fn feed_until_gone(&self, http: &Http, mut joined: Joined) -> Result<(), Gone> {
        let hello = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "role": http.role.as_str(),
            "isResumed": self.asked.after.is_some(),
            "bulletinId": joined.cursor.bulletin.to_string(),
            "eventId": joined.cursor.event.to_string(),
        });
        let prelude = Cursor { event: joined.cursor.event.saturating_sub(PRELUDE), ..joined.cursor };
        let start = self.asked.after.map_or(prelude, |after| Cursor {
            // A number from the future belongs to another grid.
            bulletin: after.bulletin.min(joined.cursor.bulletin),
            event: after.event.min(joined.cursor.event),
        });
        self.send(Frame::new(Topic::Summary, "hello", start, &hello).bytes).await?;
        for frame in self.missed(http, start, joined.cursor).await {
            self.send_wanted(frame).await?;
        }
        for frame in joined.present {
            self.send_wanted(frame).await?;
        }
        // After this, what a reader that comes back has seen is known.
        self.send(Frame::new(Topic::Summary, "live", joined.cursor, &json!({})).bytes).await?;
        let mut quiet_until = Instant::now() + KEEPALIVE;
        loop {
            match tokio::time::timeout_at(quiet_until, joined.live.recv()).await {
                // What others want does not keep this one awake.
                Ok(Ok(frame)) if !self.asked.topics.contains(&frame.topic) => continue,
                Ok(Ok(frame)) => self.send(frame.bytes).await?,
                Ok(Err(RecvError::Lagged(frames))) => {
                    tracing::info!(frames, "a reader of /api/events is too slow and is cut off");
                    self.link.cut().cancel();
                    return Err(Gone);
                }
                Ok(Err(RecvError::Closed)) => return Ok(()),
                Err(_) => self.send(Bytes::from_static(b": still here\n\n")).await?,
            }
            quiet_until = Instant::now() + KEEPALIVE;
        }
    }

    /// What came between two cursors, as far as it is at hand.
    async fn missed(&self, http: &Http, start: Cursor, end: Cursor) -> Vec<Frame> {
        let mut at = start;
        let mut frames = Vec::new();
        if start.bulletin < end.bulletin {
            let filter = BulletinFilter { after_id: Some(start.bulletin), ..BulletinFilter::default() };
            for bulletin in http.faces.inbox.board().query(&filter, BULLETINS_MAX) {
                let bulletin = convert::bulletin(&bulletin);
                at.bulletin = at.bulletin.max(bulletin.bulletin_id.min(end.bulletin));
                frames.push(Frame::bulletin(&bulletin, at));
            }
        }
        if start.event < end.event && self.asked.topics.contains(&Topic::Provenance) {
            let mut events = http.faces.provenance.recent_after(start.event, CAUGHT_UP_MAX).events;
            events.retain(|event| event.event_id <= end.event);
            let first = events.first().map_or(end.event + 1, |event| event.event_id);
            if first > start.event + 1 && self.asked.after.is_some() {
                at.event = first - 1;
                frames.push(Frame::gap(start.event, first - 1, at));
            }
            for event in events {
                at.event = event.event_id;
                frames.push(Frame::event(&convert::event(event), at));
            }
        }
        frames
    }

    async fn send_wanted(&self, frame: Frame) -> Result<(), Gone> {
        if self.asked.topics.contains(&frame.topic) { self.send(frame.bytes).await } else { Ok(()) }
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        match tokio::time::timeout(PATIENCE, self.sender.send(bytes)).await {
            Ok(sent) => sent.map_err(|_| Gone),
            Err(_) => {
                tracing::info!("a reader of /api/events has not read for {PATIENCE:?} and is cut off");
                self.link.cut().cancel();
                Err(Gone)
            }
        }
    }
}
