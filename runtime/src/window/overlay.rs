//! egui over the picture: takes the window's events, runs the HUD and paints what it says.

use std::time::Duration;
use winit::event::WindowEvent;
use winit::window::Window;

/// Short side of a window, in logical pixels, in which the HUD has its plain size.
const PLAIN_SIDE: f32 = 640.0;
/// How small and how large the HUD gets in other windows.
const ZOOM: std::ops::RangeInclusive<f32> = 0.9..=1.7;

/// egui's state for one window and one device.
pub(super) struct Overlay {
    state: egui_winit::State,
    renderer: egui_wgpu::Renderer,
}

/// What is to be painted over the picture.
pub(super) struct Painting {
    primitives: Vec<egui::ClippedPrimitive>,
    screen: egui_wgpu::ScreenDescriptor,
    freed: Vec<egui::TextureId>,
    /// When the HUD wants to be drawn again although nothing else changes.
    pub(super) again_after: Duration,
}

impl Overlay {
    pub(super) fn new(window: &Window, device: &wgpu::Device, format: wgpu::TextureFormat) -> Self {
        let context = egui::Context::default();
        crate::hud::set_style(&context);
        let state = egui_winit::State::new(
            context,
            egui::ViewportId::ROOT,
            window,
            Some(window.scale_factor() as f32),
            None,
            Some(device.limits().max_texture_dimension_2d as usize),
        );
        let options = egui_wgpu::RendererOptions::default();
        let renderer = egui_wgpu::Renderer::new(device, format, options);
        Self { state, renderer }
    }

    /// Tells egui of an event; whether it wants to draw because of it.
    pub(super) fn on_event(&mut self, window: &Window, event: &WindowEvent) -> bool {
        self.state.on_window_event(window, event).repaint
    }

    /// Runs the HUD and uploads what it needs.
    pub(super) fn run(
        &mut self,
        window: &Window,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        encoder: &mut wgpu::CommandEncoder,
        size: (u32, u32),
        hud: &mut dyn FnMut(&mut egui::Ui),
    ) -> Painting {
        let context = self.state.egui_ctx().clone();
        let short = size.0.min(size.1) as f32 / window.scale_factor() as f32;
        context.set_zoom_factor(zoom(short));
        let input = self.state.take_egui_input(window);
        let output = context.run_ui(input, hud);
        self.state
            .handle_platform_output(window, output.platform_output);
        let screen = egui_wgpu::ScreenDescriptor {
            size_in_pixels: [size.0, size.1],
            pixels_per_point: output.pixels_per_point,
        };
        let primitives = context.tessellate(output.shapes, output.pixels_per_point);
        let mut textures = output.textures_delta;
        for (id, deltas) in textures.set.drain() {
            for delta in deltas {
                self.renderer.update_texture(device, queue, id, &delta);
            }
        }
        let buffers = self
            .renderer
            .update_buffers(device, queue, encoder, &primitives, &screen);
        queue.submit(buffers);
        let root = output.viewport_output.get(&egui::ViewportId::ROOT);
        Painting {
            primitives,
            screen,
            freed: textures.free.drain().collect(),
            again_after: root.map_or(Duration::MAX, |root| root.repaint_delay),
        }
    }

    /// Paints over what the pass has drawn so far.
    pub(super) fn paint(&mut self, pass: &mut wgpu::RenderPass<'static>, painting: &Painting) {
        let [width, height] = painting.screen.size_in_pixels;
        pass.set_viewport(0.0, 0.0, width as f32, height as f32, 0.0, 1.0);
        self.renderer
            .render(pass, &painting.primitives, &painting.screen);
        for id in &painting.freed {
            self.renderer.free_texture(id);
        }
    }
}

/// How much larger than usual the HUD is in a window with that short side, so that it neither fills a small window nor drowns in a large one.
fn zoom(short_side: f32) -> f32 {
    (short_side / PLAIN_SIDE)
        .sqrt()
        .clamp(*ZOOM.start(), *ZOOM.end())
}
