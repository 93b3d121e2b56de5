//! The part of a window that graphics are drawn to.

use super::screen::Screen;
use crate::error::{Error, Result};
use nn::FrameSize;
use std::sync::Arc;
use wgpu::CurrentSurfaceTexture as Current;
use winit::event_loop::OwnedDisplayHandle;
use winit::window::Window;
use worlds::Frame;

/// A window's surface and all that draws to it.
pub(super) struct WindowSurface {
    window: Arc<Window>,
    instance: wgpu::Instance,
    surface: wgpu::Surface<'static>,
    device: wgpu::Device,
    queue: wgpu::Queue,
    configuration: wgpu::SurfaceConfiguration,
    screen: Screen,
}

impl WindowSurface {
    /// Prepares `window` for frames of `size`.
    ///
    /// # Errors
    /// [`Error::NoDisplay`] when there is no graphics driver that can draw to the window.
    pub(super) fn new(
        window: Arc<Window>,
        display: OwnedDisplayHandle,
        size: FrameSize,
    ) -> Result<Self> {
        let no_display = |what: &str, error: &dyn std::fmt::Display| {
            // wgpu ends its message with the empty list of what went wrong where it tried nothing.
            let error = error.to_string();
            Error::NoDisplay(format!("{what}: {}", error.trim_end_matches(": {}")))
        };
        let descriptor =
            wgpu::InstanceDescriptor::new_with_display_handle_from_env(Box::new(display));
        let instance = wgpu::Instance::new(descriptor);
        let surface = instance
            .create_surface(window.clone())
            .map_err(|error| no_display("no graphics on this display", &error))?;
        let options = wgpu::RequestAdapterOptions {
            compatible_surface: Some(&surface),
            ..wgpu::RequestAdapterOptions::default()
        };
        let adapter = pollster::block_on(instance.request_adapter(&options)).map_err(|error| {
            no_display(
                "no graphics driver (Vulkan, Metal, DirectX or OpenGL)",
                &error,
            )
        })?;
        tracing::debug!("drawing with {:?}", adapter.get_info());
        // Only what every driver has, and textures as large as this one allows.
        let limits = wgpu::Limits::downlevel_webgl2_defaults().using_resolution(adapter.limits());
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("djinn"),
            required_limits: limits,
            ..wgpu::DeviceDescriptor::default()
        });
        let (device, queue) = pollster::block_on(request)
            .map_err(|error| no_display("the graphics driver refused", &error))?;
        let inner = window.inner_size();
        let mut configuration = surface
            .get_default_config(&adapter, inner.width.max(1), inner.height.max(1))
            .ok_or_else(|| no_display("the graphics driver", &"cannot draw to this window"))?;
        // Frames are sRGB bytes already; a format that leaves bytes alone is the simplest.
        let formats = surface.get_capabilities(&adapter).formats;
        if let Some(plain) = formats.iter().find(|format| {
            use wgpu::TextureFormat::{Bgra8Unorm, Rgba8Unorm};
            matches!(format, Bgra8Unorm | Rgba8Unorm)
        }) {
            configuration.format = *plain;
        }
        surface.configure(&device, &configuration);
        let screen = Screen::new(&device, configuration.format, size);
        Ok(Self {
            window,
            instance,
            surface,
            device,
            queue,
            configuration,
            screen,
        })
    }

    /// The window.
    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// The window has another size now.
    pub(super) fn resize(&mut self, width: u32, height: u32) {
        // A window that is made invisible has size 0 on some systems, which no surface can have.
        if width > 0 && height > 0 {
            (self.configuration.width, self.configuration.height) = (width, height);
            self.surface.configure(&self.device, &self.configuration);
            self.window.request_redraw();
        }
    }

    /// Makes `frame` the one that is drawn from now on.
    pub(super) fn show(&self, frame: &Frame) {
        self.screen.show(&self.queue, frame);
    }

    /// Draws the frame.
    ///
    /// # Errors
    /// [`Error::Graphics`] when the driver fails for good.
    pub(super) fn draw(&mut self) -> Result<()> {
        let texture = match self.surface.get_current_texture() {
            Current::Success(texture) | Current::Suboptimal(texture) => texture,
            Current::Timeout | Current::Occluded => return Ok(()),
            Current::Outdated => {
                self.surface.configure(&self.device, &self.configuration);
                self.window.request_redraw();
                return Ok(());
            }
            Current::Lost => {
                self.surface = self
                    .instance
                    .create_surface(self.window.clone())
                    .map_err(|error| Error::Graphics(error.to_string()))?;
                self.surface.configure(&self.device, &self.configuration);
                self.window.request_redraw();
                return Ok(());
            }
            Current::Validation => {
                return Err(Error::Graphics("the driver refused to draw".into()));
            }
        };
        let view = texture
            .texture
            .create_view(&wgpu::TextureViewDescriptor::default());
        let size = (self.configuration.width, self.configuration.height);
        self.screen.draw(&self.device, &self.queue, &view, size);
        self.window.pre_present_notify();
        self.queue.present(texture);
        Ok(())
    }
}
