//! From keys and gamepads to wishes and commands.
//!
//! ```text
//! keys of window or terminal ─► InputState ◄─ PadEvent ◄─ gilrs
//!                  held, tapped ─ Bindings ─► wish       ─► the world's thread
//!              just pressed ─ ControlTable ─► Control    ─► window or terminal
//! ```
//!
//! A device names its inputs as [`worlds::Input`] does; everything from there on is one code for all devices.

mod bindings;
mod characters;
mod control;
mod gamepads;
mod own;
mod pad;
mod shared;
mod state;

pub use bindings::Bindings;
pub(crate) use characters::{SHIFTED_DIGITS, key_of};
pub use control::{Control, ControlEvent, ControlTable, OwnControls};
pub use gamepads::Gamepads;
pub use own::{OwnAction, OwnWorld};
pub use pad::{PadEvent, Stick, StickAxis};
pub use shared::SharedInput;
pub use state::{InputState, Source};
