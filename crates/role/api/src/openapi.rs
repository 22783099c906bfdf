//! The OpenAPI 3.1 document, made from the table of routes: paths, parameters and schemas are those of the handlers.

use std::collections::BTreeMap;

use axum::http::Method;
use nv_identity::permission::Category;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Required,
    ResponseBuilder,
};

use crate::answer::Described;
use crate::error::ErrorBody;
use crate::route::Route;
use crate::table::Table;

/// The document of all routes that are served.
#[must_use]
pub fn openapi() -> OpenApi {
    document(&crate::routes::table())
}

/// As it is checked in: pretty JSON with a line break at the end.
///
/// # Errors
/// When the document cannot be written as JSON.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    let mut text = openapi().to_pretty_json()?;
    text.push('\n');
    Ok(text)
}

/// `/v1/group/:name` as `/v1/group/{name}`.
fn braces(path: &str) -> String {
    path.split('/')
        .map(|part| match part.strip_prefix(':') {
            Some(name) => format!("{{{name}}}"),
            None => part.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("/")
}

/// `GET /v1/group/:name` as `get_group_name`, `GET /v2/workload` as `get_v2_workload`.
fn operation_id(route: &Route) -> String {
    let mut id = route.method.as_str().to_ascii_lowercase();
    for part in route.path.split('/').filter(|part| !part.is_empty() && *part != "v1") {
        id.push('_');
        id.push_str(part.trim_start_matches(':'));
    }
    id
}

fn document(table: &Table) -> OpenApi {
    let mut schemas = BTreeMap::new();
    let mut paths = PathsBuilder::new();
    let mut keep = |described: Described| {
        schemas.extend(described.named);
        described.schema
    };
    let error = keep(Described::of::<ErrorBody>());
    for route in table.routes() {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let tag = route.path.split('/').nth(2).or(route.path.split('/').nth(1)).unwrap_or_default();
        let mut operation = OperationBuilder::new()
            .operation_id(Some(operation_id(route)))
            .summary(Some(route.summary))
            .description(Some(format!("Permission category: {:?}.", route.category)))
            .tag(tag);
        for name in route.parameters() {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(Some(text())),
            );
        }
        if let Some(request) = route.request {
            let content = ContentBuilder::new().schema(Some(keep(request()))).build();
            operation = operation.request_body(Some(
                RequestBodyBuilder::new()
                    .content(route.request_kind, content)
                    .required(Some(Required::True))
                    .build(),
            ));
        }
        let mut good = ResponseBuilder::new().description("Done");
        if let Some((kind, answer)) = (route.response)() {
            good = good.content(kind, ContentBuilder::new().schema(Some(keep(answer))).build());
        }
        let bad = ResponseBuilder::new()
            .description("Refused")
            .content("application/json", ContentBuilder::new().schema(Some(error.clone())).build());
        operation = operation.response("200", good.build()).response("default", bad.build());
        if route.category != Category::Anonymous {
            for scheme in ["token", "api_key"] {
                operation = operation.security(SecurityRequirement::new(scheme, Vec::<String>::new()));
            }
        }
        let Some(method) = http_method(&route.method) else { continue };
        paths = paths.path(braces(route.path), PathItem::new(method, operation.build()));
    }
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme("token", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Auth-Token"))))
        .security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Auth-Apikey"))))
        .build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("NeuVector REST API")
                .version(nv_telemetry::VERSION)
                .description(Some(
                    "What the controller serves on port 10443. Lists take start, limit, f_<key>=[op,]value and \
                     s_<key>=asc|desc.",
                ))
                .build(),
        )
        .paths(paths.build())
        .components(Some(components))
        .build()
}

fn http_method(method: &Method) -> Option<HttpMethod> {
    Some(match *method {
        Method::GET => HttpMethod::Get,
        Method::POST => HttpMethod::Post,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => return None,
    })
}
