//! Compares the OpenAPI document with `docs`, and responses with their schemas.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{fake, routes::DOCUMENT};

/// How `value` differs from its schema: unknown fields, missing fields, and other types.
fn differences(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document
            .pointer(&reference[1..])
            .unwrap_or_else(|| panic!("{reference} does not exist"));
        return differences(document, schema, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
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
fn routes_are_declared_only_with_their_documentation() {
    let undocumented = [".route", ".nest", ".route_service"].map(|method| format!("{method}("));
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let text = fs::read_to_string(&path).unwrap();
            let found = undocumented.iter().find(|method| text.contains(*method));
            assert_eq!(found, None, "{}: use routes!", path.display());
        }
    }
    assert!(files > 20, "only {files} files were read");
    let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
    let requests = document["paths"].as_object().unwrap().values();
    let requests = requests.flat_map(|methods| methods.as_object().unwrap().values());
    let mut number = 0;
    for request in requests {
        number += 1;
        assert!(request["summary"].is_string(), "{request}");
    }
    assert_eq!(number, 14);
}

#[test]
fn docs_have_the_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, DOCUMENT.as_str()).unwrap();
    }
    let is_same = fs::read_to_string(&path).unwrap() == *DOCUMENT;
    assert!(
        is_same,
        "docs/openapi.json is out of date: run `UPDATE_DOCS=1 cargo test -p lb-userspace --lib openapi`"
    );
}

#[test]
fn responses_match_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _running = fake::Running::start(&path, fake::Fake::default());
    let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
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
