//! libudev without its headers: stands in for the crate of the same name, which needs them at build time.
//!
//! `gilrs` finds gamepads on Linux through libudev, and its `libudev-sys` asks `pkg-config` for the development package of that library; on a
//! fresh machine the whole build fails there. This crate takes its place (`[patch.crates-io]` in the workspace's `Cargo.toml`), has the
//! functions that `gilrs-core` calls and no others, and loads `libudev.so.1` when the first of them is called. Where that library is
//! absent, or lacks a function, every function reports nothing: null pointers and errors, upon which `gilrs` says that there are no gamepads.
//!
//! On other systems it is empty.

#![cfg(target_os = "linux")]
#![allow(non_camel_case_types)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// A type of libudev's that is only ever pointed to.
macro_rules! opaque {
    ($($name:ident: $what:literal;)*) => {$(
        #[doc = $what]
        #[repr(C)]
        pub struct $name {
            _private: [u8; 0],
        }
    )*};
}

opaque! {
    udev: "A connection to the device manager.";
    udev_list_entry: "An entry of a list, with name and value.";
    udev_device: "A device.";
    udev_monitor: "Tells of devices that come and go.";
    udev_enumerate: "A search for devices.";
}

/// Declares the functions: a table of pointers into the library, and beside it each function by its own name, which gives its last
/// expression where there is no library.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty, else $absent:expr;)*) => {
        /// Where the library's functions are.
        struct Library {
            $($name: unsafe extern "C" fn($($type),*) -> $result,)*
        }

        impl Library {
            /// Loads the library; `None` where it, or one of the functions, is absent.
            fn load(file: &CStr) -> Option<Self> {
                // SAFETY: the name is a C string. The library stays loaded for good, so that its functions stay where they are.
                let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
                if handle.is_null() {
                    return None;
                }
                Some(Self {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        // SAFETY: the library is loaded, and the name ends with a zero.
                        let address = unsafe { libc::dlsym(handle, name.as_ptr().cast()) };
                        if address.is_null() {
                            return None;
                        }
                        // SAFETY: libudev.so.1 has this function with this signature; its number 1 promises that it stays so.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $result>(address) }
                    },)*
                })
            }
        }

        $(
            /// The function of this name in libudev, or what it gives where there is none.
            ///
            /// # Safety
            /// As libudev says of it.
            pub unsafe fn $name($($argument: $type),*) -> $result {
                match library() {
                    // SAFETY: the caller keeps to libudev's conditions.
                    Some(library) => unsafe { (library.$name)($($argument),*) },
                    None => $absent,
                }
            }
        )*
    };
}

functions! {
    udev_new() -> *mut udev, else null_mut();
    udev_ref(udev: *mut udev) -> *mut udev, else null_mut();
    udev_unref(udev: *mut udev) -> *mut udev, else null_mut();

    udev_list_entry_get_next(entry: *mut udev_list_entry) -> *mut udev_list_entry, else null_mut();
    udev_list_entry_get_name(entry: *mut udev_list_entry) -> *const c_char, else null();
    udev_list_entry_get_value(entry: *mut udev_list_entry) -> *const c_char, else null();

    udev_device_new_from_syspath(udev: *mut udev, path: *const c_char) -> *mut udev_device, else null_mut();
    udev_device_ref(device: *mut udev_device) -> *mut udev_device, else null_mut();
    udev_device_unref(device: *mut udev_device) -> *mut udev_device, else null_mut();
    udev_device_get_syspath(device: *mut udev_device) -> *const c_char, else null();
    udev_device_get_devnode(device: *mut udev_device) -> *const c_char, else null();
    udev_device_get_action(device: *mut udev_device) -> *const c_char, else null();
    udev_device_get_properties_list_entry(device: *mut udev_device) -> *mut udev_list_entry, else null_mut();
    udev_device_get_property_value(device: *mut udev_device, key: *const c_char) -> *const c_char, else null();

    udev_enumerate_new(udev: *mut udev) -> *mut udev_enumerate, else null_mut();
    udev_enumerate_unref(search: *mut udev_enumerate) -> *mut udev_enumerate, else null_mut();
    udev_enumerate_add_match_property(search: *mut udev_enumerate, key: *const c_char, value: *const c_char) -> c_int, else -1;
    udev_enumerate_add_match_subsystem(search: *mut udev_enumerate, subsystem: *const c_char) -> c_int, else -1;
    udev_enumerate_scan_devices(search: *mut udev_enumerate) -> c_int, else -1;
    udev_enumerate_get_list_entry(search: *mut udev_enumerate) -> *mut udev_list_entry, else null_mut();

    udev_monitor_new_from_netlink(udev: *mut udev, name: *const c_char) -> *mut udev_monitor, else null_mut();
    udev_monitor_unref(monitor: *mut udev_monitor) -> *mut udev_monitor, else null_mut();
    udev_monitor_filter_add_match_subsystem_devtype(monitor: *mut udev_monitor, subsystem: *const c_char, kind: *const c_char) -> c_int, else -1;
    udev_monitor_enable_receiving(monitor: *mut udev_monitor) -> c_int, else -1;
    udev_monitor_get_fd(monitor: *mut udev_monitor) -> c_int, else -1;
    udev_monitor_receive_device(monitor: *mut udev_monitor) -> *mut udev_device, else null_mut();
}

/// The library, loaded on first use.
fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    LIBRARY
        .get_or_init(|| Library::load(c"libudev.so.1"))
        .as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_absent_or_another_one_is_none() {
        assert!(Library::load(c"libudev-that-is-nowhere.so.1").is_none());
        assert!(
            Library::load(c"libc.so.6").is_none(),
            "it has none of the functions"
        );
    }

    #[test]
    fn devices_are_searched_for_where_there_is_the_library_and_nothing_is_there_otherwise() {
        // SAFETY: pointers come from libudev itself, are checked where it may give null, and are released once.
        unsafe {
            let udev = udev_new();
            assert_eq!(udev.is_null(), library().is_none());
            if udev.is_null() {
                assert!(udev_enumerate_new(udev).is_null());
                assert_eq!(udev_enumerate_scan_devices(null_mut()), -1);
                return;
            }
            let search = udev_enumerate_new(udev);
            assert!(!search.is_null());
            assert_eq!(
                udev_enumerate_add_match_subsystem(search, c"net".as_ptr()),
                0
            );
            // Negative where a container hides its devices; the list is then empty.
            udev_enumerate_scan_devices(search);
            let mut entry = udev_enumerate_get_list_entry(search);
            while !entry.is_null() {
                let name = udev_list_entry_get_name(entry);
                assert!(CStr::from_ptr(name).to_bytes().starts_with(b"/sys/"));
                let device = udev_device_new_from_syspath(udev, name);
                if !device.is_null() {
                    let path = udev_device_get_syspath(device);
                    assert!(CStr::from_ptr(path).to_bytes().starts_with(b"/sys/"));
                    assert!(udev_device_unref(device).is_null());
                }
                entry = udev_list_entry_get_next(entry);
            }
            udev_enumerate_unref(search);
            udev_unref(udev);
        }
    }
}
