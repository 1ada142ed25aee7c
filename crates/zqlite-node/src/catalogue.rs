//! The error catalogue, for the test that holds Rust, TypeScript and the documentation to one list.

use napi_derive::napi;

/// A line of the catalogue.
#[napi(object)]
pub struct NativeCatalogueEntry {
    pub code: String,
    pub retryable: bool,
    pub description: String,
}

/// Every error that the native part can report, in the order of their numbers in packed answers.
#[napi]
pub fn error_catalogue() -> Vec<NativeCatalogueEntry> {
    zqlite_store::CATALOGUE
        .iter()
        .map(|e| NativeCatalogueEntry {
            code: e.code.into(),
            retryable: e.retryable,
            description: e.description.into(),
        })
        .collect()
}
