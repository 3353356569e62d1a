//! What a panic that was caught says, and where it was.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    /// Where this thread panicked last.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that was caught. The message may quote anything: it is for our own log alone.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a panic: {message}")]
pub struct Panicked {
    pub message: String,
    /// `file:line:column`; known in processes that [`watch`].
    pub location: Option<String>,
}

/// From now on remembers where panics are, besides what happened to them before.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            LAST.set(info.location().map(ToString::to_string));
            before(info);
        }));
    });
}

/// What was caught just now, on this thread.
pub fn caught(panic: &(dyn Any + Send)) -> Panicked {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Panicked { message: text.unwrap_or_else(|| "no message".to_owned()), location: LAST.take() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_tells_where_it_was() {
        watch();
        watch();
        #[expect(clippy::panic, reason = "that is what is tried")]
        let panic = std::panic::catch_unwind(|| panic!("seven is {}", 7)).unwrap_err();
        let caught = caught(&*panic);
        assert_eq!(caught.message, "seven is 7");
        assert!(caught.location.unwrap().contains("panics.rs:"));
        assert_eq!(super::caught(&"static").location, None, "a location is told once");
    }
}
