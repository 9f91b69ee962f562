use anstyle::Style;
use serde_json::json;

use super::args::{NoticeCommand, NoticeList, NoticeRetry};
use super::exit::{Exit, Failure, Result};
use super::output::when::rfc3339;
use super::output::{BAD, Cell, Column, FAINT, Field, Printer, Row, WARN, print_line};
use super::query::{self, print_list, print_pages};
use super::setup::{self, Mode};
use super::{Context, audit};
use crate::config::Config;
use crate::domain::{NoticeState, Step};
use crate::notify::wording::quantity;
use crate::store::{NoticeFilter, NoticeRow, RetriedNotices, Store};
use crate::time::MAX_INSTANT;

pub(super) async fn notice(context: &Context, args: NoticeCommand) -> Result<Exit> {
    let args = match args {
        NoticeCommand::List(args) => args,
        NoticeCommand::Retry(args) => {
            return retry(context, &setup::load_config(context)?, &args).await;
        }
    };
    let config = setup::load_store_config(context)?;
    let domain = config.mail_identity.from.email.domain();
    let now = context.clock.now();
    print_list(&config, args.options.format, now, async |store, printer| {
        list(store, &args, domain, printer).await
    })
    .await
}

async fn retry(context: &Context, config: &Config, args: &NoticeRetry) -> Result<Exit> {
    let ids = args.state.is_none().then_some(args.ids.as_slice());
    let retried = setup::with_engine(context, config, Mode::Normal, async |engine| {
        Ok(engine.retry().notices(ids, &audit::actor()).await?)
    })
    .await?;
    let RetriedNotices { owed, skipped } = retried;
    if owed + skipped == 0 {
        let error = anyhow::anyhow!("no failed notice matches");
        let hint =
            "`lapsed notice list --state failed --format csv` shows the failed ones with their ids";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let mut message = format!(
        "{} owed again; the next sweep sends what is due",
        quantity(owed, "notice")
    );
    if skipped > 0 {
        message.push_str(&format!(
            "\n{} skipped: the token was renewed or has ended, or a tighter step is owed",
            quantity(skipped, "notice")
        ));
    }
    print_line(&message)?;
    Ok(Exit::Ok)
}

/// Lists the notices that match the filters, the latest planned first.
pub(super) async fn list(
    store: &Store,
    args: &NoticeList,
    domain: &str,
    printer: &mut Printer<'_, NoticeLine>,
) -> Result<()> {
    let token = match &args.token {
        Some(text) => {
            let mut tx = store.begin_read().await?;
            Some(query::look_up_token(&mut tx, text).await?.id)
        }
        None => None,
    };
    let filter = NoticeFilter {
        recipient_key: args
            .recipient
            .as_ref()
            .map(|recipient| recipient.key().to_owned()),
        state: args.state,
        token,
        since: args.since,
    };
    print_pages(
        printer,
        args.options.limit,
        async |last, limit| {
            let before = last.map(|line: &NoticeRow| (line.planned_at, line.id));
            let mut tx = store.begin_read().await?;
            tx.list_notices(&filter, before, limit).await
        },
        |notice| NoticeLine::new(notice, domain),
    )
    .await
}

/// A notice with the Message-ID of its mail.
pub(super) struct NoticeLine {
    pub(super) notice: NoticeRow,
    pub(super) message_id: Option<String>,
}

impl NoticeLine {
    /// `domain` is the domain of `[notify] from`, which Message-IDs end with.
    pub(super) fn new(notice: NoticeRow, domain: &str) -> Self {
        let message_id = message_id(&notice, domain);
        Self { notice, message_id }
    }
}

/// The Message-ID of the mail with which the notice was tried. A cancelled or suppressed notice was
/// removed from its mail before.
pub(super) fn message_id(notice: &NoticeRow, domain: &str) -> Option<String> {
    let was_tried = match notice.state {
        NoticeState::Sending | NoticeState::Sent | NoticeState::Unknown | NoticeState::Failed => {
            true
        }
        NoticeState::Planned => notice.attempts > 0,
        NoticeState::Cancelled | NoticeState::Suppressed => false,
    };
    if !was_tried {
        return None;
    }
    Some(format!("<lapsed.{}@{domain}>", notice.mail_id?.simple()))
}

impl Row for NoticeLine {
    const FIELDS: &'static [Field<Self>] = &[
        ("id", |row, _| json!(row.notice.id)),
        ("token_id", |row, _| json!(row.notice.token_id)),
        ("token_name", |row, _| json!(row.notice.token_name)),
        ("topic", |row, _| json!(row.notice.topic)),
        ("step", |row, _| {
            json!(row.step().map(|step| step.to_string()))
        }),
        ("recipient", |row, _| json!(row.notice.recipient)),
        ("channel", |_, _| json!("mail")),
        ("state", |row, _| json!(row.notice.state)),
        ("send_at", |row, _| rfc3339(row.notice.send_at)),
        ("planned_at", |row, _| rfc3339(row.notice.planned_at)),
        // When the mail server accepted its mail.
        ("sent_at", |row, _| rfc3339(row.notice.sent_at)),
        ("attempts", |row, _| json!(row.notice.attempts)),
        ("message_id", |row, _| json!(row.message_id)),
        ("reason", |row, _| json!(row.notice.reason)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("TOKEN", 0, 12, |row, _| {
            row.notice
                .token_name
                .as_deref()
                .map_or_else(Cell::dash, Cell::name)
        }),
        Column::fixed("TOPIC", 3, |row, _| match row.step() {
            Some(step) => Cell::new(format!("{} {step}", row.notice.topic)),
            None => Cell::new(row.notice.topic),
        }),
        Column::elastic("RECIPIENT", 0, 12, |row, _| {
            Cell::new(&row.notice.recipient)
        }),
        Column::fixed("STATE", 0, |row, _| {
            Cell::new(row.notice.state.as_str()).style(state_style(row.notice.state))
        }),
        Column::fixed("WHEN", 2, |row, view| {
            // Notices about a dead address have no time of their own; `MAX_INSTANT` marks them.
            match row.notice.sent_at.unwrap_or(row.notice.send_at) {
                at if at >= MAX_INSTANT => Cell::new("with the next mail"),
                at => Cell::instant(at, view),
            }
        }),
        Column::elastic("REASON", 1, 12, |row, _| {
            Cell::optional(row.notice.reason.as_ref())
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no notices match";
}

impl NoticeLine {
    /// The step that a warning of an expiry is about.
    fn step(&self) -> Option<Step> {
        self.notice.step.map(Step::from_seconds)
    }
}

fn state_style(state: NoticeState) -> Style {
    match state {
        NoticeState::Failed => BAD,
        NoticeState::Unknown => WARN,
        NoticeState::Cancelled | NoticeState::Suppressed => FAINT,
        NoticeState::Planned | NoticeState::Sending | NoticeState::Sent => Style::new(),
    }
}
