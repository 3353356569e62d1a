//! What is kept of a person, as the copy of their data shows it (GDPR articles 15 and 20) and the report on their erasure
//! counts it. A test holds this against the catalog of the database.

use super::Form::{Json, Text};
use super::{Source, column};

/// What becomes of a section's rows when the person is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Erased,
    /// With the account, when no other tenant has it.
    ErasedWithAccount,
    /// Why, and for how long.
    Kept(&'static str),
}

impl Fate {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Erased => "erased",
            Self::ErasedWithAccount => "erased, if no other tenant has the account",
            Self::Kept(why) => why,
        }
    }
}

/// One kind of things that are kept of a person.
pub struct Section {
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    pub fate: Fate,
    /// Nobody but the person sees it.
    pub own: bool,
    pub source: Source,
}

/// Tables and columns that tell of people, with the section that shows them, or why none does.
pub const PLACES: &[(&str, &[&str], Result<&str, &str>)] = &[
    ("users", &["email"], Ok("account")),
    ("memberships", &["user_id"], Ok("membership")),
    ("member_roles", &["user_id"], Ok("membership")),
    ("sessions", &["user_id", "address", "user_agent"], Ok("sessions")),
    ("refresh_tokens", &["user_id"], Err("a secret's hash; goes with its session")),
    ("one_time_tokens", &["user_id"], Err("a secret's hash, for a day; goes with the account")),
    ("totp_factors", &["user_id"], Err("a sealed secret; goes with the account")),
    ("recovery_codes", &["user_id"], Err("a secret's hash; goes with the account")),
    ("identities", &["user_id", "email", "subject"], Ok("identities")),
    (
        "oauth_codes",
        &["user_id", "email", "subject"],
        Err("for minutes, while somebody signs in; goes with the account"),
    ),
    ("api_keys", &["created_by"], Ok("api_keys")),
    ("invitations", &["invited_by", "email"], Ok("invitations")),
    ("alerts", &["email"], Ok("alerts")),
    ("files", &["created_by"], Ok("files")),
    ("file_versions", &["created_by"], Ok("files")),
    ("exports", &["requested_by", "notify"], Ok("exports")),
    ("imports", &["requested_by", "user_id"], Ok("imports")),
    ("jobs", &["submitted_by"], Ok("jobs")),
    ("audit_logs", &["actor_id", "ip", "user_agent"], Ok("actions")),
    ("staff", &["email"], Err("the platform's own people, who are no tenant's")),
    ("staff_sessions", &["address", "user_agent"], Err("the platform's own people, who are no tenant's")),
];

/// What is sent to the person's address.
const ADDRESS: &str = "lower(r.email) = (select lower(u.email) from users u where u.id = ?)";

const AUDIT: Fate =
    Fate::Kept("kept for as long as the plan keeps audit entries, which nobody can change (article 17 (3) b and e)");

const INVITATIONS: Source = Source {
    columns: &[
        column("id", Text, "r.id::text"),
        column("role", Text, "r.role"),
        column("created_at", Text, time!("r.created_at")),
        column("accepted_at", Text, time!("r.accepted_at")),
        column("revoked_at", Text, time!("r.revoked_at")),
    ],
    filters: &[],
    from: "invitations r",
    key: ("r.id", None),
    whose: None,
};

/// In the order in which they are written.
pub const SECTIONS: &[Section] = &[
    Section {
        name: "account",
        purpose: "to sign in, and to be told of what concerns it",
        fate: Fate::ErasedWithAccount,
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("email", Text, "r.email"),
                column("name", Text, "r.name"),
                column("email_verified_at", Text, time!("r.verified_at")),
                column("deactivated_at", Text, time!("r.deactivated_at")),
                column("created_at", Text, time!("r.created_at")),
            ],
            filters: &[],
            from: "(select m.tenant_id, u.id, u.email, u.name, u.verified_at, u.deactivated_at, u.created_at
                      from memberships m join users u on u.id = m.user_id) r",
            key: ("r.id", None),
            whose: Some("r.id = ?"),
        },
    },
    Section {
        name: "membership",
        purpose: "to know who may do what in the tenant",
        fate: Fate::Erased,
        own: false,
        source: Source {
            columns: &[
                column("name", Text, "r.name"),
                column(
                    "roles",
                    Json,
                    "(select coalesce(json_agg(role order by role), '[]')::text
                        from (select r.role where r.role is not null
                              union all
                              select o.name from member_roles a join roles o on o.tenant_id = a.tenant_id and o.id = a.role_id
                               where a.tenant_id = r.tenant_id and a.user_id = r.user_id) held(role))",
                ),
                column("joined_at", Text, time!("r.created_at")),
                column("deactivated_at", Text, time!("r.deactivated_at")),
            ],
            filters: &[],
            from: "memberships r",
            key: ("r.user_id", None),
            whose: Some("r.user_id = ?"),
        },
    },
    Section {
        name: "sessions",
        purpose: "to keep somebody signed in, and to show them where they are",
        fate: Fate::Erased,
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("address", Text, "r.address"),
                column("user_agent", Text, "r.user_agent"),
                column("created_at", Text, time!("r.created_at")),
                column("refreshed_at", Text, time!("r.refreshed_at")),
                column("ended_at", Text, time!("r.ended_at")),
            ],
            filters: &[],
            from: "sessions r",
            key: ("r.id", None),
            whose: Some("r.user_id = ?"),
        },
    },
    Section {
        name: "identities",
        purpose: "to sign in by another provider",
        fate: Fate::ErasedWithAccount,
        own: true,
        source: Source {
            columns: &[
                column("provider", Text, "r.provider"),
                column("issuer", Text, "r.issuer"),
                column("subject", Text, "r.subject"),
                column("email", Text, "r.email"),
                column("linked_at", Text, time!("r.created_at")),
            ],
            filters: &[],
            from: "(select m.tenant_id, m.user_id, i.*,
                           row_number() over (partition by m.tenant_id, m.user_id order by i.issuer, i.subject)::int as number
                      from memberships m cross join linked_identities(m.user_id) i) r",
            key: ("r.user_id", Some("r.number")),
            whose: Some("r.user_id = ?"),
        },
    },
    Section {
        name: "api_keys",
        purpose: "to let programs act for the person",
        fate: Fate::Erased,
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("name", Text, "r.name"),
                column("prefix", Text, "r.prefix"),
                column("permissions", Json, "to_json(r.permissions)::text"),
                column("created_at", Text, time!("r.created_at")),
                column("expires_at", Text, time!("r.expires_at")),
                column("revoked_at", Text, time!("r.revoked_at")),
            ],
            filters: &[],
            from: "api_keys r",
            key: ("r.id", None),
            whose: Some("r.created_by = ?"),
        },
    },
    Section {
        name: "invitations",
        purpose: "to let others join whom the person invited; their addresses are not the person's data",
        fate: Fate::Erased,
        own: false,
        source: Source { whose: Some("r.invited_by = ?"), ..INVITATIONS },
    },
    Section {
        name: "invitations_received",
        purpose: "to let the person join",
        fate: Fate::Erased,
        own: false,
        source: Source { whose: Some(ADDRESS), ..INVITATIONS },
    },
    Section {
        name: "alerts",
        purpose: "to tell the person's address of what goes wrong",
        fate: Fate::Erased,
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("cause", Text, "r.cause"),
                column("email", Text, "r.email"),
                column("disabled_at", Text, time!("r.disabled_at")),
            ],
            filters: &[],
            from: "alerts r",
            key: ("r.id", None),
            whose: Some(ADDRESS),
        },
    },
    Section {
        name: "files",
        purpose: "the tenant's files that the person stored; their content is at `/files/{id}/content`",
        fate: Fate::Kept("kept: files are the tenant's, and stay unless they are to be deleted too; the id in them leads to nobody"),
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("name", Text, "r.name"),
                column("created_at", Text, time!("r.created_at")),
                column("expires_at", Text, time!("r.expires_at")),
                column("deleted_at", Text, time!("r.deleted_at")),
            ],
            filters: &[],
            from: "files r",
            key: ("r.id", None),
            whose: Some(
                "r.created_by = ? or exists (select from file_versions v
                                              where v.tenant_id = r.tenant_id and v.file_id = r.id and v.created_by = ?)",
            ),
        },
    },
    Section {
        name: "exports",
        purpose: "to know who took what out",
        fate: Fate::Kept("kept for 30 days; copies of the person's own data are deleted"),
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("resource", Text, "r.resource"),
                column("created_at", Text, time!("r.created_at")),
            ],
            filters: &[],
            from: "exports r",
            key: ("r.id", None),
            whose: Some("r.requested_by = ? or r.notify = ?"),
        },
    },
    Section {
        name: "imports",
        purpose: "to know who brought what in",
        fate: Fate::Kept("kept for 30 days"),
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("file_id", Text, "r.file_id::text"),
                column("resource", Text, "r.resource"),
                column("created_at", Text, time!("r.created_at")),
            ],
            filters: &[],
            from: "imports r",
            key: ("r.id", None),
            whose: Some("r.requested_by = ? or r.user_id = ?"),
        },
    },
    Section {
        name: "jobs",
        purpose: "work that the person asked for, with what they said of it",
        fate: Fate::Kept("kept until the retention of finished jobs; the id in them leads to nobody"),
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("kind", Text, "r.kind"),
                column("payload", Json, "r.payload"),
                column("created_at", Text, born!("r.id")),
            ],
            filters: &[],
            from: "jobs r",
            key: ("r.id", None),
            whose: Some("r.submitted_by = ?"),
        },
    },
    Section {
        name: "actions",
        purpose: "the audit log: what the person changed, and from where",
        fate: AUDIT,
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("created_at", Text, born!("r.id")),
                column("ip", Text, "host(r.ip)"),
                column("user_agent", Text, "r.user_agent"),
                column("action", Text, "r.action"),
                column("resource_type", Text, "r.resource_type"),
                column("resource_id", Text, "r.resource_id"),
            ],
            filters: &[],
            from: "audit_logs r",
            key: ("r.id", None),
            whose: Some("r.actor_id = ?"),
        },
    },
    Section {
        name: "changes",
        purpose: "the audit log: what was changed about the person, by whom it may be",
        fate: AUDIT,
        own: false,
        source: Source {
            columns: &[
                column("id", Text, "r.id::text"),
                column("created_at", Text, born!("r.id")),
                column("action", Text, "r.action"),
                column("before", Json, "r.before::text"),
                column("after", Json, "r.after::text"),
            ],
            filters: &[],
            from: "audit_logs r",
            key: ("r.id", None),
            whose: Some("r.resource_id = ?::text and r.resource_type in ('user', 'membership')"),
        },
    },
];
