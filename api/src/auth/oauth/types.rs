//! Bodies.

use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::Deserialize;

/// What a code is exchanged with
#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct Exchange {
    /// `code` in the address that the browser came back to, or `exchange_code` of the answer `otp_required`
    #[oai(validator(max_length = 200))]
    pub code: String,
    /// What `challenge` was made of, if there was one
    #[oai(validator(max_length = 200))]
    pub verifier: Option<String>,
    /// For people with a second factor: a code of the authenticator app, or a recovery code
    #[oai(validator(max_length = 64))]
    pub otp: Option<String>,
}

impl Example for Exchange {
    fn example() -> Self {
        Self {
            code: "mwo_ZFm0vYb6mV3mD0rJmYkq3v0y6l8F3o2wT1s9xQ4nR5c".to_owned(),
            verifier: Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned()),
            otp: None,
        }
    }
}
