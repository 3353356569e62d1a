//! Messages to whoever listens now; nobody keeps them.

use std::time::Duration;

use futures::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisResult, Value};

use super::{RESPONSE_TIMEOUT, Redis, Route, no_answer, unavailable};
use crate::Result;

/// Longest time until a server has taken a listener.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Redis {
    /// Sends `message` to whoever listens to `channel` now, at any node of a cluster.
    pub async fn publish(&self, channel: &str, message: &str, limit: Duration) -> Result<()> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(message); // a cluster sends it on to all its nodes
        tokio::time::timeout(limit, self.query::<i64>(&command)).await.map_err(|_| late())??;
        Ok(())
    }

    /// Listens to `channel`, on a connection of its own. At a cluster each call asks the next node, so that one that is lost
    /// does not keep others from being heard.
    pub async fn subscribe(&self, channel: &str, turn: usize) -> Result<Listener> {
        let subscribed = async {
            let mut connection = self.server(turn).await?.get_async_pubsub().await?;
            connection.subscribe(channel).await?;
            Ok(connection)
        };
        let connection = tokio::time::timeout(SUBSCRIBE_TIMEOUT, subscribed).await;
        let (sink, stream) = connection.map_err(|_| late())?.map_err(unavailable)?.split();
        Ok(Listener { sink, stream })
    }

    /// The server, or one of the nodes of a cluster.
    async fn server(&self, turn: usize) -> RedisResult<Client> {
        match &self.0 {
            Route::Server(link) => Ok(link.client().clone()),
            Route::Cluster(cluster) => cluster.topology().client_of_any(turn).await,
        }
    }
}

/// Hears what is published to one channel.
pub struct Listener {
    sink: PubSubSink,
    stream: PubSubStream,
}

impl Listener {
    /// The next message; None when the connection is lost. Asks whether it is after every `silence`.
    pub async fn next(&mut self, silence: Duration) -> Option<String> {
        loop {
            match tokio::time::timeout(silence, self.stream.next()).await {
                Ok(message) => return message?.get_payload().ok(),
                Err(_) => {
                    let alive = tokio::time::timeout(RESPONSE_TIMEOUT, self.sink.ping::<Value>()).await;
                    alive.ok()?.ok()?;
                }
            }
        }
    }
}

fn late() -> crate::Error {
    no_answer("no answer in time")
}
