//! Whether mail could be sent now, for the health route: a connection to each server, or the folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use millwork_shared::Result;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer is good for: whoever asks for the health every second is not to knock at mail servers as often.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// Longest wait for a server: the health probe's own deadline is a little longer.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// Where mails go, and what was found there last. Cheap to clone; all clones ask once.
#[derive(Clone)]
pub struct Reach(Arc<State>);

struct State {
    goal: Goal,
    found: Mutex<Option<(Instant, Option<String>)>>,
}

pub enum Goal {
    /// Hosts and ports, in the order of preference.
    Servers(Vec<(String, u16)>),
    Folder(PathBuf),
}

impl Reach {
    pub fn new(goal: Goal) -> Self {
        Self(Arc::new(State { goal, found: Mutex::default() }))
    }

    /// The folder, if mails become files.
    pub fn folder(&self) -> Option<PathBuf> {
        match &self.0.goal {
            Goal::Folder(path) => Some(path.clone()),
            Goal::Servers(_) => None,
        }
    }

    /// A sentence on what is wrong, if anything is. One server that answers is enough.
    ///
    /// # Errors
    /// Never, but it has the form of a health probe.
    pub async fn check(&self) -> Result<Option<String>> {
        let mut found = self.0.found.lock().await;
        if let Some((at, fault)) = &*found
            && at.elapsed() < GOOD_FOR
        {
            return Ok(fault.clone());
        }
        let fault = self.0.goal.fault().await;
        *found = Some((Instant::now(), fault.clone()));
        Ok(fault)
    }
}

impl Goal {
    async fn fault(&self) -> Option<String> {
        match self {
            Self::Folder(path) => {
                // Made with the first mail.
                let folder = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
                let folder = tokio::fs::metadata(folder).await.is_ok_and(|found| found.is_dir());
                (!folder).then(|| "the folder for mails cannot be made: mails are kept, and wait".to_owned())
            }
            Self::Servers(servers) => {
                let answers = join_all(servers.iter().map(|(host, port)| answers(host, *port))).await;
                let none = !answers.contains(&true);
                none.then(|| "no mail server answers: mails are kept, and wait".to_owned())
            }
        }
    }
}

async fn answers(host: &str, port: u16) -> bool {
    match tokio::time::timeout(PATIENCE, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::warn!(server.address = host, server.port = port, %error, "a mail server cannot be reached");
            false
        }
        Err(_) => {
            tracing::warn!(server.address = host, server.port = port, "a mail server does not answer");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn server() -> (TcpListener, (String, u16)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, ("127.0.0.1".to_owned(), port))
    }

    #[tokio::test]
    async fn one_server_that_answers_is_enough_and_none_is_a_fault() {
        let (listener, up) = server().await;
        let down = server().await.1; // its listener is gone
        let both = Reach::new(Goal::Servers(vec![down.clone(), up]));
        assert_eq!(both.check().await.unwrap(), None);
        let none = Reach::new(Goal::Servers(vec![down.clone(), down]));
        assert!(none.check().await.unwrap().unwrap().contains("no mail server answers"));
        drop(listener);
    }

    #[tokio::test]
    async fn an_answer_is_remembered_for_a_while_and_asked_for_by_one_at_a_time() {
        let (listener, up) = server().await;
        let reach = Reach::new(Goal::Servers(vec![up]));
        let asked = join_all((0..20).map(|_| reach.check())).await;
        assert!(asked.into_iter().all(|answer| answer.unwrap().is_none()));
        drop(listener); // with the one connection that it did not accept
        assert_eq!(reach.check().await.unwrap(), None, "remembered");
        reach.0.found.lock().await.as_mut().unwrap().0 -= GOOD_FOR;
        assert!(reach.check().await.unwrap().is_some(), "asked anew");
    }

    #[tokio::test]
    async fn a_folder_may_be_yet_to_be_made_but_not_below_a_file() {
        let folder = Reach::new(Goal::Folder(std::env::temp_dir().join("not/made/yet")));
        assert_eq!(folder.check().await.unwrap(), None);
        let file = Reach::new(Goal::Folder("/proc/self/stat/mail".into()));
        assert!(file.check().await.unwrap().is_some());
    }
}
