//! Parameters that are read by hand: poem-openapi writes a marker in their place, and [`document`](super::document) what they are.

/// Makes a type a parameter in a `Header` or the `Query`, read from the request; `marker` is its place in the raw document.
macro_rules! marked {
    ($type:ty, $place:ident, $marker:expr, $read:expr) => {
        impl<'a> poem_openapi::ApiExtractor<'a> for $type {
            const TYPES: &'static [poem_openapi::ApiExtractorType] = &[poem_openapi::ApiExtractorType::Parameter];
            type ParamType = ();
            type ParamRawType = ();

            fn param_in() -> Option<poem_openapi::registry::MetaParamIn> {
                Some(poem_openapi::registry::MetaParamIn::$place)
            }

            fn param_schema_ref() -> Option<poem_openapi::registry::MetaSchemaRef> {
                let marker = poem_openapi::registry::MetaSchema::new_with_format("string", $marker);
                Some(poem_openapi::registry::MetaSchemaRef::Inline(Box::new(marker)))
            }

            async fn from_request(
                request: &'a poem::Request,
                _body: &mut poem::RequestBody,
                _options: poem_openapi::ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let read: fn(&poem::Request) -> $crate::http::Result<Self> = $read;
                Ok(read(request)?)
            }
        }
    };
}

pub(super) use marked;
