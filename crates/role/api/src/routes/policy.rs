//! Network rules.

use std::sync::Arc;

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::application::ApplicationId;
use nv_model::group::Origin;
use nv_model::name::GroupName;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::verdict::Action;
use nv_policy::order::Place;
use nv_role_controller::{Change, View};

use crate::answer::{Empty, List, One};
use crate::call::Call;
use crate::dto::policy::{PolicyRule, PolicyRuleActionData, PolicyRuleConfig, PolicyRuleConfigData};
use crate::error::{ApiError, Code};
use crate::query::ScopeFilter;
use crate::route::Route;

/// Largest list of rules, in bytes.
const MAX_RULES_BODY: usize = 32 * 1024 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    use Category::RtPolicies as P;
    vec![
        Route::get("/v1/policy/rule", P, "List network rules", list),
        Route::patch("/v1/policy/rule", P, "Change the list of network rules", act).up_to(MAX_RULES_BODY),
        Route::delete("/v1/policy/rule", P, "Delete all network rules", delete_all),
        Route::get("/v1/policy/rule/:id", P, "Show a network rule", get),
        Route::patch("/v1/policy/rule/:id", P, "Change a network rule", update),
        Route::delete("/v1/policy/rule/:id", P, "Delete a network rule", delete),
    ]
}

/// Namespace of a rule's side: that of a learned group; other groups belong to the cluster.
fn domain_of<'a>(view: &'a View, group: &GroupName) -> Option<&'a str> {
    view.state.groups.get(group)?.domain.as_ref().map(|domain| domain.as_str())
}

fn may(call: &Call, view: &View, operation: Operation, rule: &NetworkRule) -> bool {
    if rule.origin == Origin::Federal {
        return call.may(operation, Scope::Federal);
    }
    let (from, to) = (domain_of(view, &rule.from), domain_of(view, &rule.to));
    call.may(operation, Scope::Sides(from.as_slice(), to.as_slice()))
}
fn need(call: &Call, view: &View, operation: Operation, rule: &NetworkRule) -> Result<(), ApiError> {
    if may(call, view, operation, rule) { Ok(()) } else { Err(ApiError::denied()) }
}

async fn list(call: Call) -> Result<List<PolicyRule>, ApiError> {
    let view = call.app.controller.view();
    let scope = call.query.scope()?;
    let all = call.sees_all();
    let rules: Vec<usize> = view
        .state
        .rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| scope.admits(rule.origin))
        .filter(|(_, rule)| all || may(&call, &view, Operation::Read, rule))
        .map(|(at, _)| at)
        .collect();
    let show = |view: &View, at: &usize| view.state.rules.get(*at).map(|rule| PolicyRule::of(view, rule));
    let selected = call.query.inventory(rules, |at| show(&view, at));
    let view = Arc::clone(&view);
    Ok(List::new(selected.into_iter().filter_map(move |at| show(&view, &at))))
}

fn find<'a>(call: &Call, view: &'a View, operation: Operation) -> Result<&'a NetworkRule, ApiError> {
    let raw = call.parameter("id");
    let rule = raw.parse().ok().and_then(|id| view.state.rule(RuleId(id)));
    let rule = rule.ok_or_else(|| ApiError::not_found("network rule", raw))?;
    need(call, view, operation, rule)?;
    Ok(rule)
}

async fn get(call: Call) -> Result<One<PolicyRule>, ApiError> {
    let view = call.app.controller.view();
    let rule = find(&call, &view, Operation::Read)?;
    Ok(One(PolicyRule::of(&view, rule)))
}

fn group_name(side: &str, raw: &str) -> Result<GroupName, ApiError> {
    raw.parse().map_err(|error: nv_model::name::NameError| ApiError::format(format!("{side}: {error}")))
}
fn action(raw: &str) -> Result<Action, ApiError> {
    Action::parse(raw).ok_or_else(|| ApiError::format("action is neither allow nor deny"))
}
pub(super) fn applications(raw: &[String]) -> Result<Vec<ApplicationId>, ApiError> {
    let mut ids = Vec::with_capacity(raw.len());
    for name in raw {
        match ApplicationId::parse(name) {
            Some(ApplicationId::ANY) => return Ok(Vec::new()),
            Some(id) => ids.push(id),
            None => return Err(ApiError::format(format!("application {name:?} is not known"))),
        }
    }
    Ok(ids)
}

/// A rule as a client gives it. An id that is there already with nothing else keeps that rule as it is.
fn read(view: &View, given: &PolicyRule) -> Result<NetworkRule, ApiError> {
    let held = view.state.rule(RuleId(given.id));
    if let Some(held) = held
        && given.from.is_empty()
        && given.to.is_empty()
    {
        return Ok(held.clone());
    }
    if given.cfg_type == Origin::Federal.as_str() {
        return Err(ApiError::new(Code::NotAllowed, "this cluster is no federation's primary"));
    }
    let origin = match held {
        Some(held) => held.origin,
        None if given.id == 0 => Origin::UserCreated,
        None => RuleId(given.id)
            .origin()
            .ok_or_else(|| ApiError::format(format!("rule id {} is outside of every range", given.id)))?,
    };
    Ok(NetworkRule {
        id: RuleId(given.id),
        comment: given.comment.clone(),
        from: group_name("from", &given.from)?,
        to: group_name("to", &given.to)?,
        ports: given
            .ports
            .parse()
            .map_err(|error: nv_model::port::PortsError| ApiError::format(error.to_string()))?,
        applications: applications(&given.applications)?,
        action: action(&given.action)?,
        origin,
        disabled: given.disable,
        priority: given.priority,
        created: held.map(|held| held.created).unwrap_or_default(),
        modified: held.map(|held| held.modified).unwrap_or_default(),
    })
}

fn place(after: Option<i64>) -> Result<Place, ApiError> {
    Place::from_after(after).ok_or_else(|| ApiError::format("after is no rule's id"))
}

async fn act(call: Call, body: PolicyRuleActionData) -> Result<Empty, ApiError> {
    if call.query.scope()? == ScopeFilter::Fed {
        return Err(ApiError::new(Code::NotAllowed, "this cluster is no federation's primary"));
    }
    let view = call.app.controller.view();
    let change = if let Some(moved) = body.moved {
        let id = RuleId(moved.id);
        let rule =
            view.state.rule(id).ok_or_else(|| ApiError::not_found("network rule", &moved.id.to_string()))?;
        need(&call, &view, Operation::Write, rule)?;
        Change::MoveRule { id, place: place(moved.after)? }
    } else if let Some(insert) = body.insert {
        let mut rules = Vec::with_capacity(insert.rules.len());
        for given in &insert.rules {
            if given.id != 0 && view.state.rule(RuleId(given.id)).is_some() {
                return Err(ApiError::new(Code::Duplicate, format!("rule {} exists already", given.id)));
            }
            let rule = read(&view, given)?;
            need(&call, &view, Operation::Own, &rule)?;
            rules.push(rule);
        }
        Change::InsertRules { rules, place: place(insert.after)? }
    } else if let Some(given) = body.rules {
        // The whole list: what is changed, added or left out must be the caller's to write.
        let rules = given.iter().map(|given| read(&view, given)).collect::<Result<Vec<_>, _>>()?;
        for rule in &rules {
            if view.state.rule(rule.id) != Some(rule) {
                need(&call, &view, Operation::Own, rule)?;
            }
        }
        let kept: std::collections::BTreeSet<RuleId> = rules.iter().map(|rule| rule.id).collect();
        let delete: Vec<RuleId> = body.delete.unwrap_or_default().into_iter().map(RuleId).collect();
        let gone = view.state.rules.iter().filter(|rule| {
            let dropped = rule.origin == Origin::UserCreated || delete.contains(&rule.id);
            dropped && !kept.contains(&rule.id)
        });
        for rule in gone {
            need(&call, &view, Operation::Own, rule)?;
        }
        Change::ReplaceRules { rules, delete }
    } else if let Some(ids) = body.delete {
        for id in &ids {
            let rule = view.state.rule(RuleId(*id));
            let rule = rule.ok_or_else(|| ApiError::not_found("network rule", &id.to_string()))?;
            need(&call, &view, Operation::Own, rule)?;
        }
        Change::DeleteRules(ids.into_iter().map(RuleId).collect())
    } else {
        return Err(ApiError::format("the body has none of move, insert, rules and delete"));
    };
    call.change(change).await?;
    Ok(Empty)
}

async fn delete_all(call: Call) -> Result<Empty, ApiError> {
    if call.query.scope()? == ScopeFilter::Fed {
        return Err(ApiError::new(Code::NotAllowed, "this cluster is no federation's primary"));
    }
    let view = call.app.controller.view();
    let ids: Vec<RuleId> = view
        .state
        .rules
        .iter()
        .filter(|rule| matches!(rule.origin, Origin::UserCreated | Origin::Learned))
        .filter(|rule| may(&call, &view, Operation::Own, rule))
        .map(|rule| rule.id)
        .collect();
    if !ids.is_empty() {
        call.change(Change::DeleteRules(ids)).await?;
    }
    Ok(Empty)
}

/// Puts what is given over what is there.
fn over(rule: &mut NetworkRule, given: PolicyRuleConfig) -> Result<(), ApiError> {
    if let Some(comment) = given.comment {
        rule.comment = comment;
    }
    if let Some(from) = given.from {
        rule.from = group_name("from", &from)?;
    }
    if let Some(to) = given.to {
        rule.to = group_name("to", &to)?;
    }
    if let Some(ports) = given.ports {
        rule.ports =
            ports.parse().map_err(|error: nv_model::port::PortsError| ApiError::format(error.to_string()))?;
    }
    if let Some(raw) = given.action {
        rule.action = action(&raw)?;
    }
    if let Some(raw) = given.applications {
        rule.applications = applications(&raw)?;
    }
    rule.disabled = given.disable.unwrap_or(rule.disabled);
    rule.priority = given.priority.unwrap_or(rule.priority);
    Ok(())
}

async fn update(call: Call, body: PolicyRuleConfigData) -> Result<Empty, ApiError> {
    let given = body.config.ok_or_else(|| ApiError::format("the body has no config"))?;
    let view = call.app.controller.view();
    let held = find(&call, &view, Operation::Write)?;
    let mut rule = held.clone();
    over(&mut rule, given)?;
    need(&call, &view, Operation::Own, &rule)?;
    let change = if body.replicate && held.origin == Origin::Learned {
        // A user's copy stands before the learned rule.
        let place = Place::Before(held.id);
        let rules = vec![NetworkRule { id: RuleId(0), origin: Origin::UserCreated, ..rule }];
        Change::InsertRules { rules, place }
    } else {
        Change::UpdateRule(Box::new(rule))
    };
    call.change(change).await?;
    Ok(Empty)
}

async fn delete(call: Call) -> Result<Empty, ApiError> {
    let view = call.app.controller.view();
    let id = find(&call, &view, Operation::Own)?.id;
    call.change(Change::DeleteRules(vec![id])).await?;
    Ok(Empty)
}
