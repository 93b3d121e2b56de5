//! Drawing frames with the graphics processor.

use super::layout::letterbox;
use crate::settings::Filter;
use nn::FrameSize;
use wgpu::TextureFormat;
use worlds::Frame;

/// The shader of a look.
fn shader(filter: Filter) -> &'static str {
    match filter {
        Filter::Integer => {
            concat!(
                include_str!("looks/screen.wgsl"),
                include_str!("looks/integer.wgsl")
            )
        }
        Filter::Sharp => {
            concat!(
                include_str!("looks/screen.wgsl"),
                include_str!("looks/sharp.wgsl")
            )
        }
        Filter::Crt => concat!(
            include_str!("looks/screen.wgsl"),
            include_str!("looks/crt.wgsl")
        ),
    }
}

/// What is needed to draw frames of one size onto targets of one format, with any look.
pub(super) struct Screen {
    size: FrameSize,
    /// Whether targets turn linear light into sRGB by themselves.
    target_is_srgb: bool,
    texture: wgpu::Texture,
    sizes: wgpu::Buffer,
    bind_group: wgpu::BindGroup,
    integer: wgpu::RenderPipeline,
    sharp: wgpu::RenderPipeline,
    crt: wgpu::RenderPipeline,
}

impl Screen {
    /// For frames of `size` and targets of `format`.
    pub(super) fn new(device: &wgpu::Device, format: TextureFormat, size: FrameSize) -> Self {
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("frame"),
            size: extent(size),
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            // Read as linear light, in which colours mix as they do in the eye.
            format: TextureFormat::Rgba8UnormSrgb,
            usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        let sizes = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("sizes"),
            size: SIZES_BYTES,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let layout = bind_group_layout(device);
        let pipeline = |filter| pipeline(device, format, &layout, shader(filter));
        Self {
            size,
            target_is_srgb: format.is_srgb(),
            bind_group: bind_group(device, &layout, &texture, &sizes),
            integer: pipeline(Filter::Integer),
            sharp: pipeline(Filter::Sharp),
            crt: pipeline(Filter::Crt),
            texture,
            sizes,
        }
    }

    /// Makes `frame` the one that is drawn; a frame of another size is left out.
    pub(super) fn show(&self, queue: &wgpu::Queue, frame: &Frame) {
        if frame.size() != self.size {
            return;
        }
        let pixels = frame.rgb().chunks_exact(3);
        let rgba: Vec<u8> = pixels.flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        queue.write_texture(
            self.texture.as_image_copy(),
            &rgba,
            wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(4 * self.size.width as u32),
                rows_per_image: None,
            },
            extent(self.size),
        );
    }

    /// Draws the frame in the middle of a target of `width` times `height` pixels, on black. The pass is open for what is drawn over it.
    pub(super) fn draw(
        &self,
        queue: &wgpu::Queue,
        encoder: &mut wgpu::CommandEncoder,
        target: &wgpu::TextureView,
        (width, height): (u32, u32),
        filter: Filter,
    ) -> wgpu::RenderPass<'static> {
        let frame = (self.size.width as u32, self.size.height as u32);
        let place = letterbox((width, height), frame, filter);
        let encode = if self.target_is_srgb { 0.0 } else { 1.0 };
        let (frame_width, frame_height) = (frame.0 as f32, frame.1 as f32);
        let sizes: [f32; 8] = [
            frame_width,
            frame_height,
            place.width,
            place.height,
            encode,
            0.0,
            0.0,
            0.0,
        ];
        let bytes: Vec<u8> = sizes.iter().flat_map(|size| size.to_ne_bytes()).collect();
        queue.write_buffer(&self.sizes, 0, &bytes);
        let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("frame"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: target,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::BLACK),
                    store: wgpu::StoreOp::Store,
                },
            })],
            ..wgpu::RenderPassDescriptor::default()
        });
        let mut pass = pass.forget_lifetime();
        pass.set_viewport(place.x, place.y, place.width, place.height, 0.0, 1.0);
        pass.set_pipeline(match filter {
            Filter::Integer => &self.integer,
            Filter::Sharp => &self.sharp,
            Filter::Crt => &self.crt,
        });
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.draw(0..3, 0..1);
        pass
    }
}

/// Bytes of the shaders' `Sizes`: five numbers, and up to the next multiple of 16 bytes.
const SIZES_BYTES: u64 = 32;

fn bind_group_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::FRAGMENT,
        ty,
        count: None,
    };
    let texture = wgpu::BindingType::Texture {
        sample_type: wgpu::TextureSampleType::Float { filterable: true },
        view_dimension: wgpu::TextureViewDimension::D2,
        multisampled: false,
    };
    let sampler = wgpu::BindingType::Sampler(wgpu::SamplerBindingType::Filtering);
    let sizes = wgpu::BindingType::Buffer {
        ty: wgpu::BufferBindingType::Uniform,
        has_dynamic_offset: false,
        min_binding_size: None,
    };
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("frame"),
        entries: &[
            entry(0, texture),
            entry(1, sampler),
            entry(2, sampler),
            entry(3, sizes),
        ],
    })
}

fn bind_group(
    device: &wgpu::Device,
    layout: &wgpu::BindGroupLayout,
    texture: &wgpu::Texture,
    sizes: &wgpu::Buffer,
) -> wgpu::BindGroup {
    let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
    let sampler = |filter| {
        device.create_sampler(&wgpu::SamplerDescriptor {
            mag_filter: filter,
            min_filter: filter,
            ..wgpu::SamplerDescriptor::default()
        })
    };
    let nearest = sampler(wgpu::FilterMode::Nearest);
    let blending = sampler(wgpu::FilterMode::Linear);
    let entry = |binding, resource| wgpu::BindGroupEntry { binding, resource };
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("frame"),
        layout,
        entries: &[
            entry(0, wgpu::BindingResource::TextureView(&view)),
            entry(1, wgpu::BindingResource::Sampler(&nearest)),
            entry(2, wgpu::BindingResource::Sampler(&blending)),
            entry(3, sizes.as_entire_binding()),
        ],
    })
}

fn pipeline(
    device: &wgpu::Device,
    format: TextureFormat,
    layout: &wgpu::BindGroupLayout,
    shader: &str,
) -> wgpu::RenderPipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("frame"),
        source: wgpu::ShaderSource::Wgsl(shader.into()),
    });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some("frame"),
        bind_group_layouts: &[Some(layout)],
        ..wgpu::PipelineLayoutDescriptor::default()
    });
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some("frame"),
        layout: Some(&layout),
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: Some("vertex"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            buffers: &[],
        },
        primitive: wgpu::PrimitiveState::default(),
        depth_stencil: None,
        multisample: wgpu::MultisampleState::default(),
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some("fragment"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            targets: &[Some(format.into())],
        }),
        multiview_mask: None,
        cache: None,
    })
}

fn extent(size: FrameSize) -> wgpu::Extent3d {
    wgpu::Extent3d {
        width: size.width as u32,
        height: size.height as u32,
        depth_or_array_layers: 1,
    }
}

#[cfg(test)]
mod tests;
