//! What is kept of people is known.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use millwork_shared::exports::Resource;
use millwork_shared::exports::source::personal::{PLACES, SECTIONS};
use millwork_shared::exports::source::{Filters, Position, Source};
use millwork_shared::infra::ids::UserId;

use super::Ledger;

/// Columns that tell of people by their keys, or by names that such columns have.
const COLUMNS: &str = "
    select distinct c.relname::text, a.attname::text
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_constraint k on k.conrelid = c.oid and k.contype = 'f' and a.attnum = any (k.conkey)
           and k.confrelid in ('users'::regclass, 'memberships'::regclass)
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
       and a.attname <> 'tenant_id'
       and (k.oid is not null
            or a.attname ~ '(email|address|user_agent|user_id|actor_id|_by)$|^(ip|notify|subject)$' and a.attname <> 'sealed_by')";

#[tokio::test]
async fn every_column_that_tells_of_people_is_known() {
    let ledger = Ledger::create().await;
    let columns: Vec<(String, String)> = sqlx::query_as(COLUMNS).fetch_all(&ledger.test.owner().await).await.unwrap();
    let mut there = BTreeMap::<_, BTreeSet<_>>::new();
    for (table, column) in columns {
        there.entry(table).or_default().insert(column);
    }
    let known: BTreeMap<_, BTreeSet<_>> = PLACES
        .iter()
        .map(|(table, columns, _)| ((*table).to_owned(), columns.iter().map(|column| (*column).to_owned()).collect()))
        .collect();
    assert_eq!(there, known, "a column is new, or gone: say in PLACES what becomes of it");
    let sections: BTreeSet<_> = SECTIONS.iter().map(|section| section.name).collect();
    for (table, _, shown) in PLACES {
        assert!(shown.is_err() || shown.is_ok_and(|section| sections.contains(section)), "{table}");
    }
}

#[tokio::test]
async fn every_section_can_be_read_and_shows_nothing_of_others() {
    let ledger = Ledger::create().await;
    ledger.store(&[ledger.job()]).await;
    let filters = Filters { user_id: Some(UserId::generate().0), ..Filters::default() };
    let until: DateTime<Utc> = "2100-01-01T00:00:00Z".parse().unwrap();
    for section in SECTIONS {
        let mut tx = ledger.tenant().await;
        let mut rows = 0;
        let page = section.source.page(&mut tx, &filters, (Position::START, until), 10, |_| {
            rows += 1;
            Ok(false)
        });
        let (_, more) = page.await.unwrap_or_else(|error| panic!("{}: {error}", section.name));
        assert_eq!((rows, more), (0, false), "{}", section.name);
    }
}

/// 60,000 events, of which the last is a rare one.
async fn events() -> Ledger {
    let ledger = Ledger::create().await;
    let sql = format!(
        "insert into events (tenant_id, id, type, payload, created_at)
         select '{}', ('019a0000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,
                case n when 60000 then 'order.rare' else 'order.common' end, '1', now()
           from generate_series(1, 60000) n",
        ledger.tenant
    );
    ledger.test.sql(sql).await;
    ledger
}

#[tokio::test]
async fn filtered_pages_show_each_row_once_across_what_one_of_them_may_look_at() {
    let ledger = events().await;
    let source = Source::of(Resource::Events).unwrap();
    let until: DateTime<Utc> = "2100-01-01T00:00:00Z".parse().unwrap();
    let common = Filters { event_type: Some("order.common".into()), ..Filters::default() };
    let (mut position, mut ids) = (Position::START, Vec::new());
    loop {
        let mut tx = ledger.tenant().await;
        let page = source.page(&mut tx, &common, (position, until), 7_000, |values| {
            ids.push(values[0].unwrap()[24..].parse::<u32>().unwrap());
            Ok(false)
        });
        let (last, more) = page.await.unwrap();
        position = last;
        if !more {
            break;
        }
    }
    assert!(ids.iter().copied().eq(1..60_000), "{} rows", ids.len());
}

#[tokio::test]
async fn a_page_of_rows_that_few_fit_ends_before_the_deadline_and_says_where_to_go_on() {
    let ledger = events().await;
    let source = Source::of(Resource::Events).unwrap();
    let until: DateTime<Utc> = "2100-01-01T00:00:00Z".parse().unwrap();
    let rare = Filters { event_type: Some("order.rare".into()), ..Filters::default() };
    let (mut position, mut found, mut pages) = (Position::START, 0, Vec::new());
    loop {
        let mut tx = ledger.tenant().await;
        let page = source.page(&mut tx, &rare, (position, until), 10, |_| {
            found += 1;
            Ok(false)
        });
        let (last, more) = page.await.unwrap();
        pages.push((found, more));
        position = last;
        if !more {
            break;
        }
    }
    assert_eq!(pages, [(0, true), (1, false)]);
}
