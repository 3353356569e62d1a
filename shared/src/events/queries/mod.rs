//! Every statement on the tables of events.

mod announce;
mod publish;
mod read;
mod types;

pub use announce::announce;
pub use publish::{
    NewDelivery, NewEvent, Published, Route, Topic, insert_deliveries, insert_events, list_published, list_routes,
};
pub use read::{EventRow, Filter, find, get, list, list_deliveries_of};
pub use types::{
    EventTypeRow, TypeChange, delete_type, find_type, get_type, insert_type, list_types, lock_type, update_type,
};
