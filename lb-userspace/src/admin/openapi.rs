//! The description of the API, which is a file of the project: tests hold it against routes and answers.

use std::sync::LazyLock;

use axum::{
    http::{Uri, header},
    response::{IntoResponse, Response},
};

use super::parameters::Parameters;
use crate::api::Problem;

const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

/// The paths that there are, in one line.
pub(super) fn paths() -> &'static str {
    static PATHS: LazyLock<String> = LazyLock::new(|| {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
        let paths = document["paths"].as_object().into_iter().flatten();
        paths.map(|(path, _)| path.as_str()).collect::<Vec<_>>().join(", ")
    });
    &PATHS
}

/// Answers with the document.
pub(super) async fn document(uri: Uri) -> Result<Response, Problem> {
    Parameters::read(&uri, &[])?;
    Ok(([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use serde_json::{Value, json};

    use super::{super::fake, DOCUMENT};

    /// Paths and methods of all routes that the files of this folder declare.
    fn routes() -> BTreeSet<(String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin");
        let declared = concat!(".route", "(");
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            let parts = text
                .split(declared)
                .skip(1)
                .filter_map(|part| part.trim_start().strip_prefix('"'));
            found.extend(parts.filter_map(|part| {
                let (path, rest) = part.split_once('"')?;
                let (method, _) = rest.trim_start_matches([',', ' ', '\n']).split_once('(')?;
                Some((path.to_owned(), method.to_owned()))
            }));
        }
        found
    }

    /// What `value` has that its schema does not, or lacks, or has of another type.
    fn differences(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let schema = document
                .pointer(&reference[1..])
                .unwrap_or_else(|| panic!("{reference} is nowhere"));
            return differences(document, schema, value, at);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            let each = choices.iter().map(|schema| differences(document, schema, value, at));
            return each.min_by_key(Vec::len).unwrap_or_default();
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_u64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let allowed = |word: &Value| word == kind || (kind == "integer" && word == "number");
        let types = &schema["type"];
        if !types
            .as_array()
            .map_or_else(|| allowed(types), |types| types.iter().any(allowed))
        {
            return vec![format!("{at} is of type {kind}, not {types}")];
        }
        match value {
            Value::Array(items) => {
                let each = items
                    .iter()
                    .map(|item| differences(document, &schema["items"], item, at));
                each.flatten().collect()
            }
            Value::Object(fields) => {
                let known = |name: &String| schema["properties"].get(name).or(schema.get("additionalProperties"));
                let lacking = schema["required"].as_array().into_iter().flatten();
                let lacking = lacking.filter(|name| !fields.contains_key(name.as_str().unwrap()));
                let lacking = lacking.map(|name| format!("{at} lacks {name}"));
                let inner = fields.iter().flat_map(|(name, value)| match known(name) {
                    Some(schema) => differences(document, schema, value, &format!("{at}.{name}")),
                    None => vec![format!("{at}.{name} is not in the document")],
                });
                lacking.chain(inner).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_route_is_in_the_document_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let paths = document["paths"].as_object().unwrap().iter();
        let described: BTreeSet<_> = paths
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(|method| (path.clone(), method.clone()))
            })
            .collect();
        assert_eq!(described, routes());
    }

    #[test]
    fn answers_are_as_the_document_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _running = fake::Running::start(&path, fake::Fake::default());
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        for (route, url) in [
            ("/v1/node", "/v1/node"),
            ("/v1/services", "/v1/services"),
            ("/v1/services/{name}", "/v1/services/web"),
            ("/v1/backends", "/v1/backends"),
            ("/v1/flows", "/v1/flows?limit=2"),
            ("/v1/flows/count", "/v1/flows/count"),
            ("/v1/events", "/v1/events"),
            (
                "/v1/explain",
                "/v1/explain?protocol=tcp&client=192.0.2.1:80&address=192.0.2.2:80",
            ),
        ] {
            let schema = &document["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
            let answer = ask(&path, url);
            assert_eq!(differences(&document, schema, &answer, url), [""; 0]);
        }
        let problem = ask(&path, "/v1/nothing");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("/v1/vrrp/{name}/{verb}"), "{detail}");
        let schema = &document["components"]["schemas"]["Problem"];
        assert_eq!(differences(&document, schema, &problem, "problem"), [""; 0]);
        assert_eq!(ask(&path, "/v1/openapi.json"), document);
        let wrong = differences(&document, schema, &json!({ "type": 1, "more": 2 }), "problem");
        assert_eq!(wrong.len(), 5, "{wrong:?}");
    }

    fn ask(socket: &Path, url: &str) -> Value {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "--unix-socket"])
            .arg(socket)
            .arg(format!("http://lbd{url}"));
        let output = curl.output().expect("curl");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
