//! Ids are UUIDv7 (RFC 9562), so that they sort by time of creation, and newtypes, so that they are not mixed up.

/// Declares an id type over [`uuid::Uuid`].
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type,
        )]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl $name {
            /// A fresh id, later than every one this process made before.
            #[expect(clippy::disallowed_methods, reason = "the place the ban points at")]
            pub fn generate() -> Self {
                Self(uuid::Uuid::now_v7())
            }

            /// The time in the id, to the millisecond; the epoch for an id that is no UUIDv7.
            pub fn created_at(self) -> chrono::DateTime<chrono::Utc> {
                let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |t| t.to_unix());
                chrono::DateTime::from_timestamp(seconds as i64, nanos).unwrap_or_default()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                uuid::Uuid::parse_str(s).map(Self)
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(id: uuid::Uuid) -> Self {
                Self(id)
            }
        }
    };
}

id!(TenantId);
id!(UserId);
id!(ApiKeyId);
id!(
    /// A person or an API key.
    ActorId
);
id!(SessionId);
id!(
    /// A person as another provider knows them.
    IdentityId
);
id!(OneTimeTokenId);
id!(JobId);
id!(BatchId);
id!(AlertId);
id!(IpRuleId);
id!(
    /// One start of one worker process; a process that lost its lease takes a new one.
    WorkerId
);
id!(EventId);
id!(EventTypeId);
id!(WebhookId);
id!(
    /// A delivery is carried by the job of the same id.
    DeliveryId
);
id!(
    /// Of an HTTP request whose caller gave none.
    RequestId
);
id!(ScheduleId);
id!(RoleId);
id!(
    /// Something in storage: the content of a file, an export, a report.
    ObjectId
);
id!(FileId);
id!(ExportId);
id!(ImportId);
id!(
    /// One run of an import's job.
    RunId
);
id!(InvitationId);
id!(RefreshTokenId);
id!(SigningKeyId);
id!(
    /// Somebody who runs the platform.
    StaffId
);
id!(StaffSessionId);
