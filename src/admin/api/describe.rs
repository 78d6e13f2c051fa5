//! The API's description in OpenAPI 3.1, made from the operations and from the types that they read and write.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::StatusCode;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::json_schema;
use serde_json::{Map, Value, json};

use super::operations::{OPERATIONS, Operation, Parameter};
use super::values::{Handle, User};
use crate::admin::problem::{Code, PROBLEM_JSON, ProblemBody};

/// The document as it is served.
pub(super) fn document() -> String {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| build().to_string());
    DOCUMENT.clone()
}

fn build() -> Value {
    let mut schemas = Schemas::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in &OPERATIONS {
        let path = paths.entry(operation.path).or_default();
        if let Some(parameter) = path_parameter(operation, &mut schemas) {
            path.insert("parameters".to_owned(), json!([parameter]));
        }
        let method = operation.method.as_str().to_ascii_lowercase();
        path.insert(method, describe(operation, &mut schemas));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portcullis admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Sessions by call, on the gateway's private listener.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.into_definitions(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "What the file of admin.token_file holds.",
                },
            },
        },
    })
}

/// What is read and what is written differ in what may be absent, so each has a generator.
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12()
            .with(|settings| settings.definitions_path = "/components/schemas".into());
        Self {
            read: settings.clone().for_deserialize().into_generator(),
            written: settings.for_serialize().into_generator(),
        }
    }

    fn into_definitions(mut self) -> Map<String, Value> {
        let mut definitions = self.read.take_definitions(true);
        definitions.extend(self.written.take_definitions(true));
        definitions
    }
}

fn describe(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut described = json!({
        "operationId": operation.call.name(),
        "summary": operation.summary,
        "description": operation.description,
        "responses": responses(operation, schemas),
    });
    if !operation.query.is_empty() {
        let parameters: Vec<Value> = operation
            .query
            .iter()
            .map(|parameter| query_parameter(*parameter, schemas))
            .collect();
        described["parameters"] = parameters.into();
    }
    if let Some(body) = operation.body {
        described["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": body(&mut schemas.read) } },
        });
    }
    described
}

fn responses(operation: &Operation, schemas: &mut Schemas) -> Value {
    let (status, body) = operation.success;
    let mut success = json!({ "description": "Done." });
    if let Some(body) = body {
        let schema = body(&mut schemas.written);
        success["content"] = json!({ "application/json": { "schema": schema } });
    }
    if status == StatusCode::CREATED {
        success["headers"] = json!({
            "Location": { "description": "Where the session is shown.", "schema": { "type": "string" } },
        });
    }
    let mut responses = Map::new();
    responses.insert(status.as_str().to_owned(), success);
    let mut codes: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in problems(operation) {
        codes
            .entry(code.status().as_u16())
            .or_default()
            .push(code.name());
    }
    let schema = schemas.written.subschema_for::<ProblemBody<'_>>();
    for (status, names) in codes {
        let problem = json!({
            "description": format!("Not done: {}.", names.join(", ")),
            "content": { PROBLEM_JSON: { "schema": schema } },
        });
        responses.insert(status.to_string(), problem);
    }
    responses.into()
}

/// All that can go wrong with an operation.
fn problems(operation: &Operation) -> Vec<Code> {
    let mut problems = vec![
        Code::InvalidHost,
        Code::ForeignHost,
        Code::ForeignOrigin,
        Code::Unauthorized,
        Code::MethodNotAllowed,
        Code::InvalidParameter,
        Code::Internal,
        Code::StoreUnavailable,
    ];
    if operation.body.is_some() {
        problems.extend([
            Code::UnsupportedMediaType,
            Code::BodyTooLarge,
            Code::BodyTimeout,
            Code::MalformedJson,
            Code::InvalidBody,
        ]);
    }
    problems.extend(operation.problems);
    problems.sort_unstable();
    problems
}

fn path_parameter(operation: &Operation, schemas: &mut Schemas) -> Option<Value> {
    let (_, rest) = operation.path.split_once('{')?;
    let (name, _) = rest.split_once('}')?;
    let schema = match name {
        "handle" => schemas.read.subschema_for::<Handle>(),
        "kid" => json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" }),
        _ => schemas.read.subschema_for::<User>(),
    };
    Some(json!({ "name": name, "in": "path", "required": true, "schema": schema }))
}

fn query_parameter(parameter: Parameter, schemas: &mut Schemas) -> Value {
    let (description, schema) = match parameter {
        Parameter::Limit | Parameter::LogLimit => {
            let (default, most) = parameter.limits();
            let schema =
                json!({ "type": "integer", "minimum": 1, "maximum": most, "default": default });
            ("How many at most.", schema)
        }
        Parameter::Cursor => {
            let schema = schemas.read.subschema_for::<Handle>().to_value();
            ("`next_cursor` of the page before.", schema)
        }
        Parameter::After => {
            let schema = json!({ "type": "integer", "minimum": 0, "maximum": Parameter::MOST_AFTER, "default": 0 });
            ("A sequence: what comes after it is shown.", schema)
        }
    };
    json!({
        "name": parameter.name(),
        "in": "query",
        "required": false,
        "description": description,
        "schema": schema,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::build;

    /// Every `$ref` of a document.
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field {
                        Value::String(target) if name == "$ref" => found.push(target),
                        other => references(other, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = build();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50);
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }
}
