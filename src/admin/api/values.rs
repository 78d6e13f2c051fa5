//! What the API reads and writes: the product's own types, as JSON and with a schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::issuer::{SessionClaims, SessionData};
use crate::session::SessionHandle;

/// A session handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Handle(pub SessionHandle);

/// A user id.
#[derive(Clone, Debug)]
pub(super) struct User(pub UserId);

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub Timestamp);

/// A JSON object that goes into every access token of a session.
#[derive(Debug)]
pub(super) struct Claims(pub SessionClaims);

/// Any JSON that stays in the store.
#[derive(Debug)]
pub(super) struct Data(pub SessionData);

/// JSON that is handed out as it was stored.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Stored(Box<RawValue>);

impl Stored {
    /// Nothing else is ever stored; should it be, it is not handed out.
    pub fn new(json: String) -> Self {
        Self(RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for Handle {
    fn schema_name() -> Cow<'static, str> {
        "Handle".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Names a session: 128 bits in base64url. Not a secret.",
            // The last character holds two bits only.
            "pattern": "^[A-Za-z0-9_-]{21}[AQgw]$",
        })
    }
}

impl Serialize for User {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        UserId::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for User {
    fn schema_name() -> Cow<'static, str> {
        "User".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The application's own name of a user, compared byte for byte: no control characters, no white space at its ends. In a path it is percent-encoded once.",
            "minLength": 1,
            "maxLength": UserId::MAX_CHARS,
            "pattern": USER_PATTERN,
        })
    }
}

/// ECMA-262's `\s` has U+FEFF, which is no white space, and lacks U+0085, which is a control character.
const USER_PATTERN: &str = "^[^\\s\\u0000-\\u001f\\u007f-\\u009f]([^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f])?$";

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, in UTC, to the second.",
        })
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let claims = SessionClaims::parse(json.get().as_bytes());
        claims
            .map(Self)
            .map_err(|error| D::Error::custom(format!("claims: {error}")))
    }
}

impl JsonSchema for Claims {
    fn schema_name() -> Cow<'static, str> {
        "Claims".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Goes into every access token of the session, which a cookie has to hold: at most 2048 bytes.",
        })
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let data = SessionData::parse(json.get().as_bytes());
        data.map(Self)
            .map_err(|error| D::Error::custom(format!("data: {error}")))
    }
}

impl JsonSchema for Data {
    fn schema_name() -> Cow<'static, str> {
        "Data".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Any JSON; stays in the store. At most 64 KiB." })
    }
}

impl JsonSchema for Stored {
    fn schema_name() -> Cow<'static, str> {
        "Stored".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "JSON as it was stored." })
    }
}

#[cfg(test)]
mod tests {
    use super::{Claims, Data, Handle, User};

    fn error<T: serde::de::DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
        serde_json::from_str::<T>(json).unwrap_err().to_string()
    }

    #[test]
    fn values_are_checked_where_they_are_read() {
        assert!(serde_json::from_str::<User>(r#""zo\u00eb""#).is_ok());
        // T018, T058.
        for user in [
            r#""""#,
            r#"" a""#,
            r#""a\r\nx-user-id: b""#,
            r#""a\u0000""#,
            "1",
            "null",
        ] {
            assert!(serde_json::from_str::<User>(user).is_err(), "{user}");
        }
        assert!(serde_json::from_str::<Handle>(r#""AAAAAAAAAAAAAAAAAAAAAA""#).is_ok());
        assert!(serde_json::from_str::<Handle>(r#""AAAAAAAAAAAAAAAAAAAAAB""#).is_err());
        assert!(error::<Claims>("[1]").contains("claims: not a JSON object"));
        let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(2048));
        assert!(error::<Claims>(&long).contains("longer than 2048 bytes"));
        assert!(serde_json::from_str::<Data>("[1,null]").is_ok());
    }
}
