//! Enums whose variants have names, in the database and for clients.

/// Declares an enum whose variants have names.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident: $what:literal { $($(#[$note:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$note])* $variant),* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let names = || Self::ALL.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
                let known = Self::ALL.iter().copied().find(|known| known.as_str() == text);
                known.ok_or_else(|| format!(concat!("`{}` is not ", $what, "; those are {}"), text, names()))
            }
        }
    };
}

pub(crate) use named;
