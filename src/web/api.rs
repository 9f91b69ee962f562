//! The operations below `/api/v1`, a file for each noun.

mod accounts;
mod audit;
mod findings;
mod forecast;
mod notices;
mod overview;
mod paging;
mod preferences;
mod secrets;
mod target;
mod token_body;
mod token_list;
mod tokens;
mod users;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::state::AppState;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(token_list::list_tokens, tokens::create_token))
        .routes(routes!(tokens::summarize_tokens))
        .routes(routes!(
            tokens::show_token,
            tokens::update_token,
            tokens::delete_token
        ))
        .routes(routes!(secrets::regenerate_token))
        .routes(routes!(tokens::disable_token))
        .routes(routes!(tokens::enable_token))
        .routes(routes!(notices::list_notices))
        .routes(routes!(notices::read_notice))
        .routes(routes!(accounts::list_accounts, accounts::create_account))
        .routes(routes!(
            accounts::show_account,
            accounts::update_account,
            accounts::delete_account
        ))
        .routes(routes!(users::list_users, users::create_user))
        .routes(routes!(
            users::show_user,
            users::update_user,
            users::delete_user
        ))
        .routes(routes!(users::disable_user))
        .routes(routes!(users::enable_user))
        .routes(routes!(
            preferences::show_preferences,
            preferences::update_preferences
        ))
        .routes(routes!(findings::list_findings))
        .routes(routes!(findings::acknowledge_finding))
        .routes(routes!(forecast::list_forecast))
        .routes(routes!(audit::list_audit))
        .routes(routes!(overview::show_policy))
        .routes(routes!(overview::check_policy))
        .routes(routes!(overview::list_sources))
        .routes(routes!(overview::list_directories))
}
