//! Reading one's own write: the caller shows the position token of a write, and the answer waits for the read model.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use nexus_event_store::PositionToken;
use nexus_web::problem::Problem;
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

use super::QueryApi;

const POSITION: &str = "nexus-position";
const WAIT_MS: &str = "nexus-wait-ms";
/// How long a request waits when it does not say, and at most.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What the caller wants to have been seen: the request's `Nexus-Position`, and `Nexus-Wait-Ms` for its patience.
#[derive(Debug)]
pub struct After {
    positions: Vec<(i32, i64)>,
    patience: Duration,
}

/// The parameters of a route that takes no others.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PositionOnly {
    /// A position token: answer only once this write has been seen.
    pub position: Option<String>,
}

impl IntoParams for After {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let header = |name, description| {
            let text = ObjectBuilder::new().schema_type(Type::String);
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(description))
                .schema(Some(text))
                .build()
        };
        vec![
            header(
                "Nexus-Position",
                "A position token of a write: the answer waits until this read model has seen it.",
            ),
            header("Nexus-Wait-Ms", "How long to wait at most, in milliseconds; 5000 unless told, and never longer."),
        ]
    }
}

impl<S: Sync> FromRequestParts<S> for After {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let positions = header(parts, POSITION)?.map_or(Ok(Vec::new()), |text| positions(text, "Nexus-Position"))?;
        let patience = header(parts, WAIT_MS)?.map_or(Ok(WAIT_MAX), patience)?;
        Ok(Self { positions, patience })
    }
}

impl After {
    /// No write is waited for.
    pub fn nothing() -> Self {
        Self { positions: Vec::new(), patience: WAIT_MAX }
    }

    /// Takes the positions of the `position` parameter as well, for callers that can't set headers.
    pub fn and(mut self, parameter: Option<&str>) -> Result<Self, Problem> {
        if let Some(text) = parameter {
            self.positions.extend(positions(text, "position")?);
        }
        Ok(self)
    }
}

impl QueryApi {
    /// Waits until the read model has passed the positions that the caller shows, as long as the caller is patient.
    pub async fn wait(&self, read_model: &'static str, after: &After) -> Result<(), Problem> {
        if after.positions.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + after.patience;
        loop {
            let mut changes = self.versions().changes();
            let patience = deadline.saturating_duration_since(Instant::now());
            tokio::select! {
                reached = self.watcher().wait_for(self.served(read_model), &after.positions, patience) => {
                    return if reached { Ok(()) } else { Err(Problem::read_model_behind()) };
                }
                // What was waited for may have stopped moving: another version is served now.
                Ok(()) = changes.changed() => {}
            }
        }
    }
}

fn header<'a>(parts: &'a Parts, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let text = parts.headers.get(name).map(|value| value.to_str());
    text.transpose().map_err(|_| Problem::invalid_parameter(name, "Plain ASCII is expected."))
}

fn positions(text: &str, name: &str) -> Result<Vec<(i32, i64)>, Problem> {
    PositionToken::parse(text).map_err(|error| Problem::invalid_parameter(name, format!("{error}.")))
}

fn patience(text: &str) -> Result<Duration, Problem> {
    match text.parse() {
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds).min(WAIT_MAX)),
        Err(_) => Err(Problem::invalid_parameter("Nexus-Wait-Ms", "A number of milliseconds is expected.")),
    }
}
