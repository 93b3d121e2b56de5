//! The part of a window that graphics are drawn to.

use super::overlay::Overlay;
use super::screen::Screen;
use crate::error::{Error, Result};
use crate::settings::Filter;
use nn::FrameSize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wgpu::CurrentSurfaceTexture as Current;
use winit::event::WindowEvent;
use winit::event_loop::OwnedDisplayHandle;
use winit::window::Window;
use worlds::Frame;

/// How long a lost graphics device is waited for, as while a driver is being updated.
const PATIENCE: Duration = Duration::from_secs(20);

/// A window's surface and all that draws to it. Nothing in it outlives the graphics device but the newest frame, so a lost device is replaced by
/// making everything anew.
pub(super) struct WindowSurface {
    window: Arc<Window>,
    display: OwnedDisplayHandle,
    size: FrameSize,
    newest: Option<Arc<Frame>>,
    graphics: Option<Graphics>,
    lost_since: Option<Instant>,
}

/// Everything that belongs to one graphics device.
struct Graphics {
    instance: wgpu::Instance,
    surface: wgpu::Surface<'static>,
    device: wgpu::Device,
    queue: wgpu::Queue,
    configuration: wgpu::SurfaceConfiguration,
    screen: Screen,
    overlay: Overlay,
    lost: Arc<AtomicBool>,
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
        let graphics = Graphics::new(&window, &display, size)?;
        Ok(Self {
            window,
            display,
            size,
            newest: None,
            graphics: Some(graphics),
            lost_since: None,
        })
    }

    /// The window.
    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Tells the HUD of an event of the window.
    pub(super) fn on_event(&mut self, event: &WindowEvent) {
        if let Some(graphics) = &mut self.graphics
            && graphics.overlay.on_event(&self.window, event)
        {
            self.window.request_redraw();
        }
    }

    /// The window has another size now.
    pub(super) fn resize(&mut self, width: u32, height: u32) {
        // A window that is made invisible has size 0 on some systems, which no surface can have.
        if let Some(graphics) = &mut self.graphics
            && width > 0
            && height > 0
        {
            graphics.resize(width, height);
            self.window.request_redraw();
        }
    }

    /// Prepares for frames of another size.
    pub(super) fn set_frame_size(&mut self, size: FrameSize) {
        self.size = size;
        self.newest = None;
        if let Some(graphics) = &mut self.graphics {
            let format = graphics.configuration.format;
            graphics.screen = Screen::new(&graphics.device, format, size);
        }
    }

    /// Makes `frame` the one that is drawn from now on.
    pub(super) fn show(&mut self, frame: Arc<Frame>) {
        if let Some(graphics) = &self.graphics {
            graphics.screen.show(&graphics.queue, &frame);
        }
        self.newest = Some(frame);
    }

    /// Draws the frame, and the HUD over it. Says after which time the HUD wants to be drawn again even if nothing else happens.
    ///
    /// # Errors
    /// [`Error::Graphics`] when the driver fails for good.
    pub(super) fn draw(
        &mut self,
        filter: Filter,
        hud: &mut dyn FnMut(&mut egui::Ui),
    ) -> Result<Duration> {
        self.replace_what_is_lost()?;
        let Some(graphics) = &mut self.graphics else {
            return Ok(RETRY);
        };
        let texture = match graphics.surface.get_current_texture() {
            Current::Success(texture) | Current::Suboptimal(texture) => texture,
            Current::Occluded => return Ok(Duration::MAX),
            Current::Timeout => return Ok(RETRY),
            Current::Outdated => {
                graphics.configure();
                return Ok(RETRY);
            }
            Current::Lost => {
                graphics.renew_surface(&self.window)?;
                return Ok(RETRY);
            }
            // A device that is lost just now says so here.
            Current::Validation => {
                graphics.lost.store(true, Ordering::Release);
                return Ok(RETRY);
            }
        };
        let again = graphics.draw(&self.window, texture, filter, hud);
        self.lost_since = None;
        Ok(again)
    }

    /// Makes everything anew where the graphics device is gone, for as long as it takes a driver to come back.
    fn replace_what_is_lost(&mut self) -> Result<()> {
        let whole = self
            .graphics
            .as_ref()
            .is_some_and(|graphics| !graphics.lost.load(Ordering::Acquire));
        if whole {
            return Ok(());
        }
        let since = *self.lost_since.get_or_insert_with(Instant::now);
        // The old surface must be gone before the window can have another.
        self.graphics = None;
        match Graphics::new(&self.window, &self.display, self.size) {
            Ok(graphics) => {
                tracing::warn!("the graphics device was lost; going on with a new one");
                if let Some(frame) = &self.newest {
                    graphics.screen.show(&graphics.queue, frame);
                }
                self.graphics = Some(graphics);
                Ok(())
            }
            Err(error) if since.elapsed() > PATIENCE => Err(Error::Graphics(error.to_string())),
            Err(_) => Ok(()),
        }
    }
}

/// After which time a drawing that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Graphics {
    fn new(window: &Arc<Window>, display: &OwnedDisplayHandle, size: FrameSize) -> Result<Self> {
        let display = Box::new(display.clone());
        let descriptor = wgpu::InstanceDescriptor::new_with_display_handle_from_env(display);
        let instance = wgpu::Instance::new(descriptor);
        let surface = instance
            .create_surface(window.clone())
            .map_err(|error| no_display("no graphics on this display", &error))?;
        let (adapter, device, queue) = open_device(&instance, &surface)?;
        let lost = watch(&device);
        let inner = window.inner_size();
        let configuration = configuration(&surface, &adapter, (inner.width, inner.height))?;
        surface.configure(&device, &configuration);
        let screen = Screen::new(&device, configuration.format, size);
        let overlay = Overlay::new(window, &device, configuration.format);
        Ok(Self {
            instance,
            surface,
            device,
            queue,
            configuration,
            screen,
            overlay,
            lost,
        })
    }

    fn configure(&self) {
        self.surface.configure(&self.device, &self.configuration);
    }

    fn resize(&mut self, width: u32, height: u32) {
        let most = self.device.limits().max_texture_dimension_2d;
        (self.configuration.width, self.configuration.height) = (width.min(most), height.min(most));
        self.configure();
    }

    fn renew_surface(&mut self, window: &Arc<Window>) -> Result<()> {
        self.surface = self
            .instance
            .create_surface(window.clone())
            .map_err(|error| Error::Graphics(error.to_string()))?;
        self.configure();
        Ok(())
    }

    fn draw(
        &mut self,
        window: &Window,
        texture: wgpu::SurfaceTexture,
        filter: Filter,
        hud: &mut dyn FnMut(&mut egui::Ui),
    ) -> Duration {
        let (device, queue) = (&self.device, &self.queue);
        let size = (self.configuration.width, self.configuration.height);
        let view = texture
            .texture
            .create_view(&wgpu::TextureViewDescriptor::default());
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let painting = self
            .overlay
            .run(window, device, queue, &mut encoder, size, hud);
        let mut pass = self.screen.draw(queue, &mut encoder, &view, size, filter);
        self.overlay.paint(&mut pass, &painting);
        drop(pass);
        queue.submit([encoder.finish()]);
        window.pre_present_notify();
        queue.present(texture);
        painting.again_after
    }
}

/// A device of the driver that suits best or, where that one refuses, of the first other one that can draw to `surface`.
fn open_device(
    instance: &wgpu::Instance,
    surface: &wgpu::Surface<'static>,
) -> Result<(wgpu::Adapter, wgpu::Device, wgpu::Queue)> {
    let options = wgpu::RequestAdapterOptions {
        compatible_surface: Some(surface),
        // The picture asks little of any hardware. Without hardware, software: Vulkan before OpenGL either way.
        power_preference: wgpu::PowerPreference::LowPower,
        ..wgpu::RequestAdapterOptions::default()
    };
    let best = pollster::block_on(instance.request_adapter(&options)).map_err(|error| {
        no_display(
            "no graphics driver (Vulkan, Metal, DirectX or OpenGL)",
            &format!("{}; {INSTALL}", trimmed(&error)),
        )
    })?;
    let refusal = match device_of(&best) {
        Ok((device, queue)) => return Ok((best, device, queue)),
        Err(error) => error,
    };
    let all = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let refused = best.get_info();
    let others = all
        .into_iter()
        .filter(|adapter| adapter.get_info() != refused && adapter.is_surface_supported(surface));
    for adapter in others {
        if let Ok((device, queue)) = device_of(&adapter) {
            let taken = adapter.get_info();
            tracing::warn!(
                "{} by {} refused ({refusal}); drawing with {} by {}",
                refused.name,
                refused.backend,
                taken.name,
                taken.backend
            );
            return Ok((adapter, device, queue));
        }
    }
    Err(no_display("the graphics driver refused", &refusal))
}

fn device_of(
    adapter: &wgpu::Adapter,
) -> std::result::Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    tracing::debug!("trying to draw with {:?}", adapter.get_info());
    // Only what every driver has, and textures as large as this one allows.
    let limits = wgpu::Limits::downlevel_webgl2_defaults().using_resolution(adapter.limits());
    pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("djinn"),
        required_limits: limits,
        ..wgpu::DeviceDescriptor::default()
    }))
}

/// Becomes true when the device is lost. Errors of the driver are logged instead of ending the program.
fn watch(device: &wgpu::Device) -> Arc<AtomicBool> {
    let lost = Arc::new(AtomicBool::new(false));
    let flag = lost.clone();
    device.set_device_lost_callback(move |_, _| flag.store(true, Ordering::Release));
    device.on_uncaptured_error(Arc::new(|error| tracing::warn!("graphics: {error}")));
    lost
}

/// How the surface of a window of that size is presented.
fn configuration(
    surface: &wgpu::Surface<'_>,
    adapter: &wgpu::Adapter,
    (width, height): (u32, u32),
) -> Result<wgpu::SurfaceConfiguration> {
    let mut configuration = surface
        .get_default_config(adapter, width.max(1), height.max(1))
        .ok_or_else(|| no_display("the graphics driver", &"cannot draw to this window"))?;
    // Frames are sRGB bytes already, and the HUD is made for them: a format that leaves bytes alone is the simplest.
    let formats = surface.get_capabilities(adapter).formats;
    if let Some(plain) = formats.iter().find(|format| {
        use wgpu::TextureFormat::{Bgra8Unorm, Rgba8Unorm};
        matches!(format, Bgra8Unorm | Rgba8Unorm)
    }) {
        configuration.format = *plain;
    }
    // At the display's rate, and no more than one picture waiting for it: a key is seen sooner.
    configuration.present_mode = wgpu::PresentMode::AutoVsync;
    configuration.desired_maximum_frame_latency = 1;
    Ok(configuration)
}

/// What to do about a machine without a graphics driver.
const INSTALL: &str = if cfg!(target_os = "windows") {
    "install the driver of the graphics card, or update Windows"
} else if cfg!(target_os = "macos") {
    "macOS brings Metal along since version 10.14; update macOS"
} else {
    "install one: `apt install mesa-vulkan-drivers` on Debian and Ubuntu, `dnf install mesa-vulkan-drivers` on Fedora, `pacman -S vulkan-swrast` on Arch"
};

fn no_display(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::NoDisplay(format!("{what}: {}", trimmed(error)))
}

/// wgpu ends its message with the empty list of what went wrong where it tried nothing.
fn trimmed(error: &dyn std::fmt::Display) -> String {
    error.to_string().trim_end_matches(": {}").to_owned()
}
