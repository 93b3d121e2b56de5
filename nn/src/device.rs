//! Where models live and compute.

use crate::{Error, Result};
use candle_core::Device;
use std::sync::OnceLock;

/// A choice of device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where the program was built for one and there is one; else the CPU.
    #[default]
    Auto,
    /// The CPU, by the fused operations.
    Cpu,
    /// The first NVIDIA GPU; needs the feature `cuda`.
    Cuda,
    /// The GPU of an Apple computer; needs the feature `metal`.
    Metal,
}

impl DeviceChoice {
    /// The device that is meant.
    ///
    /// # Errors
    /// When this program was not built for it or it is not there.
    pub fn open(self) -> Result<Device> {
        let device = match self {
            Self::Auto => Device::new_cuda(0)
                .or_else(|_| Device::new_metal(0))
                .or(Ok(Device::Cpu)),
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if !cfg!(feature = "cuda") => return Err(not_built_for("cuda")),
            Self::Metal if !cfg!(feature = "metal") => return Err(not_built_for("metal")),
            Self::Cuda => Device::new_cuda(0),
            Self::Metal => Device::new_metal(0),
        };
        Ok(device?)
    }
}

fn not_built_for(device: &str) -> Error {
    Error::Input(format!(
        "this program was built without support for {device}; build it with --features {device}"
    ))
}

static OF_PROCESS: OnceLock<Device> = OnceLock::new();

/// Chooses the device of this process, before anything asks for it; the first choice stays.
///
/// # Errors
/// As [`DeviceChoice::open`].
pub fn choose_device(choice: DeviceChoice) -> Result<()> {
    let device = choice.open()?;
    OF_PROCESS.get_or_init(|| device);
    Ok(())
}

/// The device of this process: the one that [`choose_device`] chose, the CPU without a choice.
pub fn device() -> &'static Device {
    OF_PROCESS.get_or_init(|| Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_the_program_was_not_built_for_is_refused_by_name() {
        assert!(DeviceChoice::Cpu.open().unwrap().is_cpu());
        for (choice, name, built) in [
            (DeviceChoice::Cuda, "cuda", cfg!(feature = "cuda")),
            (DeviceChoice::Metal, "metal", cfg!(feature = "metal")),
        ] {
            if !built {
                let error = choice.open().unwrap_err().to_string();
                assert!(error.contains(&format!("--features {name}")), "{error}");
            }
        }
        if !cfg!(feature = "cuda") && !cfg!(feature = "metal") {
            assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        }
    }
}
