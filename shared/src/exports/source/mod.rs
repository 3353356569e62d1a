//! What is exported, page by page.
//!
//! A page is a transaction of its own, and goes on after the last row of the one before by its id: an export that takes an
//! hour holds no snapshot for an hour, which would keep PostgreSQL from clearing away what jobs leave behind. So an export
//! is no picture of one moment: what changes while it runs is in it as it was when its page was read.

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, QueryBuilder, Row};
use uuid::Uuid;

use super::Resource;
use crate::Result;
use crate::infra::db::TenantTx;
use crate::jobs::State;

/// Which rows; None: all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filters {
    /// Created at or after.
    pub from: Option<DateTime<Utc>>,
    /// Created before.
    pub to: Option<DateTime<Utc>>,
    pub state: Option<State>,
    pub kind: Option<String>,
    pub queue: Option<String>,
    pub tag: Option<String>,
    /// Of events and deliveries.
    pub event_type: Option<String>,
    pub webhook_id: Option<Uuid>,
    pub action: Option<String>,
    pub actor_id: Option<Uuid>,
    /// Of personal data: whose.
    pub user_id: Option<Uuid>,
}

impl Filters {
    /// Whether every row is wanted, of its time.
    fn narrow_nothing(&self) -> bool {
        *self == Self { from: self.from, to: self.to, ..Self::default() }
    }

    /// The names of those that are set.
    pub fn names(&self) -> Vec<&'static str> {
        let all = [
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("state", self.state.is_some()),
            ("kind", self.kind.is_some()),
            ("queue", self.queue.is_some()),
            ("tag", self.tag.is_some()),
            ("event_type", self.event_type.is_some()),
            ("webhook_id", self.webhook_id.is_some()),
            ("action", self.action.is_some()),
            ("actor_id", self.actor_id.is_some()),
            ("user_id", self.user_id.is_some()),
        ];
        all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }
}

/// Rows that a page of filtered ones looks at.
const SCANNED: i64 = 50_000;

/// How a value is written in JSON. In every format it comes as PostgreSQL's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    /// A number, or true or false.
    Plain,
    /// JSON already.
    Json,
}

/// One column of an export.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub form: Form,
    sql: &'static str,
}

/// Where the rows of a resource come from.
pub struct Source {
    pub columns: &'static [Column],
    /// Filters that it knows.
    pub filters: &'static [&'static str],
    from: &'static str,
    /// What a row is told by, and pages are in the order of: an id, and perhaps a number.
    key: (&'static str, Option<&'static str>),
    /// Of personal data: when a row is the person's, who is the `?`.
    whose: Option<&'static str>,
}

/// The row after which a page begins, and how far pages of filtered rows may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    id: Uuid,
    number: i32,
    window: Window,
}

/// Which rows may be looked at, of those that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// That has to be found.
    Unknown,
    UpTo(Uuid),
    All,
}

impl Position {
    pub const START: Self = Self::after(Uuid::nil(), -1, Window::Unknown);

    const fn after(id: Uuid, number: i32, window: Window) -> Self {
        Self { id, number, window }
    }
}

impl Column {
    /// Of rows that do not come from a source.
    pub const fn text(name: &'static str) -> Self {
        column(name, Form::Text, "")
    }

    /// The same, of numbers.
    pub const fn plain(name: &'static str) -> Self {
        column(name, Form::Plain, "")
    }
}

const fn column(name: &'static str, form: Form, sql: &'static str) -> Column {
    Column { name, form, sql }
}

/// A moment as the API writes it.
macro_rules! time {
    ($sql:expr) => {
        concat!("to_char(", $sql, " at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
    };
}

/// The moment in an id.
macro_rules! born {
    ($id:literal) => {
        time!(concat!("to_timestamp(('x' || left(replace(", $id, "::text, '-', ''), 12))::bit(48)::bigint / 1000.0)"))
    };
}

/// Where a job stands.
macro_rules! state {
    () => {
        "coalesce(o.state::text, case when l.running then 'running' when l.run_at <= ledger_now() then 'queued'
                                     when l.attempt > 0 then 'retrying' else 'scheduled' end)"
    };
}

const STATES: &str = "
    left join job_live l on l.tenant_id = r.tenant_id and l.id = r.id
    left join job_outcomes o on o.tenant_id = r.tenant_id and o.id = r.id";

/// What is kept of a person, by sections.
pub mod personal;

impl Source {
    /// What the resource consists of; None for personal data, which has [sections](personal::SECTIONS).
    pub fn of(resource: Resource) -> Option<Self> {
        use Form::{Json, Plain, Text};
        Some(match resource {
            Resource::PersonalData => return None,
            Resource::Jobs => Self {
                columns: const {
                    &[
                        column("id", Text, "r.id::text"),
                        column("kind", Text, "r.kind"),
                        column("queue", Text, "r.queue"),
                        column("state", Text, state!()),
                        column("priority", Plain, "r.priority::text"),
                        column("payload", Json, "r.payload"),
                        column("result", Json, "o.result"),
                        column("last_error", Json, "o.error"),
                        column("attempt", Plain, "coalesce(l.attempt, o.attempt, 0)::text"),
                        column("max_attempts", Plain, "coalesce(l.max_attempts, r.max_attempts)::text"),
                        column("run_at", Text, time!("coalesce(l.run_at, r.run_at)")),
                        column("created_at", Text, born!("r.id")),
                        column("started_at", Text, time!("coalesce(o.started_at, l.started_at)")),
                        column("finished_at", Text, time!("o.finished_at")),
                        column("unique_key", Text, "r.unique_key"),
                        column("schedule_id", Text, "r.schedule_id::text"),
                        column("request_id", Text, "r.request_id"),
                        column("tags", Json, "to_json(r.tags)::text"),
                    ]
                },
                filters: &["from", "to", "state", "kind", "queue", "tag"],
                from: "jobs r",
                key: ("r.id", None),
                whose: None,
            },
            Resource::Attempts => Self {
                columns: const {
                    &[
                        column("job_id", Text, "r.id::text"),
                        column("attempt", Plain, "r.attempt::text"),
                        column("ended", Text, "r.ended"),
                        column("worker_id", Text, "r.worker_id::text"),
                        column("started_at", Text, time!("r.started_at")),
                        column("finished_at", Text, time!("r.finished_at")),
                        column("error", Json, "r.error"),
                        column("detail", Json, "r.detail"),
                    ]
                },
                filters: &["from", "to"],
                from: "(select tenant_id, id, attempt, ended, worker_id, started_at, finished_at, error, detail
                          from job_attempts
                        union all
                        select tenant_id, id, attempt, state::text, worker_id, started_at, finished_at, error, detail
                          from job_outcomes where attempt > 0 and started_at is not null) r",
                key: ("r.id", Some("r.attempt::int")),
                whose: None,
            },
            Resource::Events => Self {
                columns: const {
                    &[
                        column("id", Text, "r.id::text"),
                        column("type", Text, "r.type"),
                        column("payload", Json, "r.payload"),
                        column("created_at", Text, time!("r.created_at")),
                        column("request_id", Text, "r.request_id"),
                    ]
                },
                filters: &["from", "to", "event_type"],
                from: "events r",
                key: ("r.id", None),
                whose: None,
            },
            Resource::Deliveries => Self {
                columns: const {
                    &[
                        column("id", Text, "r.id::text"),
                        column("webhook_id", Text, "r.webhook_id::text"),
                        column("event_id", Text, "r.event_id::text"),
                        column("event_type", Text, "r.event_type"),
                        column("state", Text, state!()),
                        column("attempt", Plain, "coalesce(l.attempt, o.attempt, 0)::text"),
                        column("created_at", Text, born!("r.id")),
                        column("finished_at", Text, time!("o.finished_at")),
                        column("last_error", Json, "o.error"),
                    ]
                },
                filters: &["from", "to", "state", "event_type", "webhook_id"],
                from: "webhook_deliveries r",
                key: ("r.id", None),
                whose: None,
            },
            Resource::AuditLogs => Self {
                columns: const {
                    &[
                        column("id", Text, "r.id::text"),
                        column("created_at", Text, born!("r.id")),
                        column("actor_type", Text, "r.actor_type"),
                        column("actor_id", Text, "r.actor_id::text"),
                        column("ip", Text, "host(r.ip)"),
                        column("user_agent", Text, "r.user_agent"),
                        column("request_id", Text, "r.request_id"),
                        column("action", Text, "r.action"),
                        column("resource_type", Text, "r.resource_type"),
                        column("resource_id", Text, "r.resource_id"),
                        column("before", Json, "r.before::text"),
                        column("after", Json, "r.after::text"),
                    ]
                },
                filters: &["from", "to", "action", "actor_id"],
                from: "audit_logs r",
                key: ("r.id", None),
                whose: None,
            },
            Resource::Users => Self {
                columns: const {
                    &[
                        column("id", Text, "u.id::text"),
                        column("email", Text, "u.email"),
                        column("name", Text, "coalesce(r.name, u.name)"),
                        column(
                            "roles",
                            Json,
                            "(select coalesce(json_agg(role order by role), '[]')::text
                                from (select r.role where r.role is not null
                                      union all
                                      select o.name from member_roles a join roles o on o.tenant_id = a.tenant_id and o.id = a.role_id
                                       where a.tenant_id = r.tenant_id and a.user_id = r.user_id) held(role))",
                        ),
                        column("email_verified_at", Text, time!("u.verified_at")),
                        column("joined_at", Text, time!("r.created_at")),
                        column("deactivated_at", Text, time!("r.deactivated_at")),
                    ]
                },
                filters: &[],
                from: "memberships r join users u on u.id = r.user_id",
                key: ("r.user_id", None),
                whose: None,
            },
            Resource::Files => Self {
                columns: const {
                    &[
                        column("id", Text, "r.id::text"),
                        column("name", Text, "r.name"),
                        column("number", Plain, "v.number::text"),
                        column("media_type", Text, "v.media_type"),
                        column("size_bytes", Plain, "b.size_bytes::text"),
                        column("sha256", Text, "encode(b.sha256, 'hex')"),
                        column("created_by", Text, "r.created_by::text"),
                        column("created_at", Text, time!("r.created_at")),
                        column("expires_at", Text, time!("r.expires_at")),
                        column("deleted_at", Text, time!("r.deleted_at")),
                    ]
                },
                filters: &["from", "to"],
                from: "files r
                       left join file_versions v
                              on v.tenant_id = r.tenant_id and v.file_id = r.id and v.number = r.current
                       left join objects b on b.tenant_id = v.tenant_id and b.id = v.object_id",
                key: ("r.id", None),
                whose: None,
            },
        })
    }

    /// Reads rows after `position`, those made before `until`, and hands them on until they end, there are `limit`, or
    /// `take` has enough. Answers the row to go on after, and whether there may be more.
    ///
    /// However few of the rows are wanted, it looks at 50,000 at most: what a statement may take is bounded.
    pub async fn page(
        &self,
        tx: &mut TenantTx,
        filters: &Filters,
        (position, until): (Position, DateTime<Utc>),
        limit: i64,
        mut take: impl FnMut(&[Option<&str>]) -> Result<bool>,
    ) -> Result<(Position, bool)> {
        let window = match position.window {
            Window::All => Window::All,
            Window::UpTo(end) if position.id < end => position.window,
            _ => self.window(tx, filters, (position, until)).await?,
        };
        let mut query = self.select(tx, filters, (Position { window, ..position }, until), limit);
        let mut rows = query.build().fetch(&mut **tx);
        let (mut last, mut seen) = (position, 0);
        while let Some(row) = rows.try_next().await? {
            let mut values = Vec::with_capacity(self.columns.len());
            for n in 0..self.columns.len() {
                values.push(row.try_get::<Option<&str>, _>(n + 2)?);
            }
            last = Position::after(row.try_get(0)?, row.try_get(1)?, window);
            seen += 1;
            if take(&values)? {
                return Ok((last, true));
            }
        }
        match window {
            Window::UpTo(end) if seen < limit => Ok((Position::after(end, i32::MAX, Window::Unknown), true)),
            _ => Ok((last, seen == limit)),
        }
    }

    /// How far pages of filtered rows after `position` may look.
    async fn window(
        &self,
        tx: &mut TenantTx,
        filters: &Filters,
        (position, until): (Position, DateTime<Utc>),
    ) -> Result<Window> {
        if filters.narrow_nothing() {
            return Ok(Window::All); // every row is wanted
        }
        let id = self.key.0;
        let mut query = QueryBuilder::new(format!("select {id} from {} where r.tenant_id = ", self.from));
        query.push_bind(tx.tenant()).push(format!(" and {id} >= ")).push_bind(position.id);
        query.push(format!(" and {id} < uuid_floor(")).push_bind(until).push(")");
        query.push(format!(" order by {id} offset ")).push_bind(SCANNED).push(" limit 1");
        let end = query.build_query_scalar().fetch_optional(&mut **tx).await?;
        Ok(end.map_or(Window::All, Window::UpTo))
    }

    fn select(
        &self,
        tx: &TenantTx,
        filters: &Filters,
        (position, until): (Position, DateTime<Utc>),
        limit: i64,
    ) -> QueryBuilder<Postgres> {
        let (id, number) = self.key;
        let mut query = QueryBuilder::new(format!("select {id}, {}", number.unwrap_or("0")));
        for column in self.columns {
            query.push(", ").push(column.sql);
        }
        query.push(" from ").push(self.from);
        if self.columns.iter().any(|column| column.sql == state!()) {
            query.push(STATES);
        }
        query.push(" where r.tenant_id = ").push_bind(tx.tenant());
        match number {
            Some(number) => {
                query.push(format!(" and ({id}, {number}) > (")).push_bind(position.id).push(", ");
                query.push_bind(position.number);
                query.push(")").push(format!(" and {id} >= ")).push_bind(position.id);
            }
            None => {
                query.push(format!(" and {id} > ")).push_bind(position.id);
            }
        }
        query.push(format!(" and {id} < uuid_floor(")).push_bind(until).push(")");
        if let Window::UpTo(end) = position.window {
            query.push(format!(" and {id} <= ")).push_bind(end);
        }
        self.narrow(&mut query, filters);
        match number {
            Some(number) => query.push(format!(" order by {id}, {number} limit ")),
            None => query.push(format!(" order by {id} limit ")),
        };
        query.push_bind(limit);
        query
    }

    fn narrow(&self, query: &mut QueryBuilder<Postgres>, filters: &Filters) {
        let (id, _) = self.key;
        if let Some(from) = filters.from {
            query.push(format!(" and {id} >= uuid_floor(")).push_bind(from).push(")");
        }
        if let Some(to) = filters.to {
            query.push(format!(" and {id} < uuid_floor(")).push_bind(to).push(")");
        }
        if let Some(state) = filters.state {
            query.push(concat!(" and ", state!(), " = ")).push_bind(state.as_str());
        }
        if let Some(tag) = &filters.tag {
            query.push(" and r.tags @> array[").push_bind(tag.clone()).push("]");
        }
        let event_type = if self.from == "events r" { "r.type" } else { "r.event_type" };
        for (column, value) in [
            ("r.kind", &filters.kind),
            ("r.queue", &filters.queue),
            (event_type, &filters.event_type),
            ("r.action", &filters.action),
        ] {
            if let Some(value) = value {
                query.push(format!(" and {column} = ")).push_bind(value.clone());
            }
        }
        for (column, value) in [("r.webhook_id", filters.webhook_id), ("r.actor_id", filters.actor_id)] {
            if let Some(value) = value {
                query.push(format!(" and {column} = ")).push_bind(value);
            }
        }
        if let (Some(user), Some(whose)) = (filters.user_id, self.whose) {
            query.push(" and (");
            for (n, part) in whose.split('?').enumerate() {
                if n > 0 {
                    query.push_bind(user);
                }
                query.push(part);
            }
            query.push(")");
        }
    }
}
