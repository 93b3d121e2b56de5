//! Drawing frames with the graphics processor.

use super::layout::letterbox;
use nn::FrameSize;
use worlds::Frame;

/// What is needed to draw frames of one size onto targets of one format.
pub(super) struct Screen {
    size: FrameSize,
    texture: wgpu::Texture,
    bind_group: wgpu::BindGroup,
    pipeline: wgpu::RenderPipeline,
}

impl Screen {
    /// For frames of `size` and targets of `format`.
    pub(super) fn new(device: &wgpu::Device, format: wgpu::TextureFormat, size: FrameSize) -> Self {
        // Where the target turns linear light into sRGB, the frame must be read the other way round, so that bytes stay bytes.
        let texture_format = match format.is_srgb() {
            true => wgpu::TextureFormat::Rgba8UnormSrgb,
            false => wgpu::TextureFormat::Rgba8Unorm,
        };
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("frame"),
            size: extent(size),
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: texture_format,
            usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        // The default sampler takes the nearest pixel.
        let sampler = device.create_sampler(&wgpu::SamplerDescriptor::default());
        let shader = device.create_shader_module(wgpu::include_wgsl!("frame.wgsl"));
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("frame"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &shader,
                entry_point: Some("vertex"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                buffers: &[],
            },
            primitive: wgpu::PrimitiveState::default(),
            depth_stencil: None,
            multisample: wgpu::MultisampleState::default(),
            fragment: Some(wgpu::FragmentState {
                module: &shader,
                entry_point: Some("fragment"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                targets: &[Some(format.into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("frame"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry {
                    binding: 0,
                    resource: wgpu::BindingResource::TextureView(&view),
                },
                wgpu::BindGroupEntry {
                    binding: 1,
                    resource: wgpu::BindingResource::Sampler(&sampler),
                },
            ],
        });
        Self {
            size,
            texture,
            bind_group,
            pipeline,
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

    /// Draws the frame in the middle of a target of `width` times `height` pixels, on black.
    pub(super) fn draw(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        target: &wgpu::TextureView,
        (width, height): (u32, u32),
    ) {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
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
        let frame = (self.size.width as u32, self.size.height as u32);
        let place = letterbox((width, height), frame);
        pass.set_viewport(place.x, place.y, place.width, place.height, 0.0, 1.0);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.draw(0..3, 0..1);
        drop(pass);
        queue.submit([encoder.finish()]);
    }
}

fn extent(size: FrameSize) -> wgpu::Extent3d {
    wgpu::Extent3d {
        width: size.width as u32,
        height: size.height as u32,
        depth_or_array_layers: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws a frame into a picture of 64 pixels a row and reads it back as RGBA; `None` where this machine has no Vulkan, Metal or
    /// DirectX at all, not even in software.
    fn drawn(frame: &Frame, format: wgpu::TextureFormat, height: u32) -> Option<Vec<u8>> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let options = wgpu::RequestAdapterOptions::default();
        let adapter = pollster::block_on(instance.request_adapter(&options)).ok()?;
        let request = adapter.request_device(&wgpu::DeviceDescriptor::default());
        let (device, queue) = pollster::block_on(request).unwrap();
        let size = wgpu::Extent3d {
            width: 64,
            height,
            depth_or_array_layers: 1,
        };
        let target = device.create_texture(&wgpu::TextureDescriptor {
            label: None,
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let screen = Screen::new(&device, format, frame.size());
        screen.show(&queue, frame);
        let view = target.create_view(&wgpu::TextureViewDescriptor::default());
        screen.draw(&device, &queue, &view, (64, height));
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: u64::from(256 * height),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(256),
            rows_per_image: None,
        };
        let copy = wgpu::TexelCopyBufferInfo {
            buffer: &buffer,
            layout,
        };
        encoder.copy_texture_to_buffer(target.as_image_copy(), copy, size);
        queue.submit([encoder.finish()]);
        buffer
            .slice(..)
            .map_async(wgpu::MapMode::Read, |mapped| mapped.unwrap());
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let bytes = buffer.slice(..).get_mapped_range().unwrap().to_vec();
        Some(bytes)
    }

    #[test]
    fn every_pixel_becomes_a_crisp_square_of_its_own_colour() {
        let size = FrameSize {
            height: 3,
            width: 5,
        };
        let rgb: Vec<u8> = (0..45).map(|i| (i * 37 % 256) as u8).collect();
        let frame = Frame::new(size, rgb.clone()).unwrap();
        for format in [
            wgpu::TextureFormat::Rgba8Unorm,
            wgpu::TextureFormat::Rgba8UnormSrgb,
        ] {
            let Some(pixels) = drawn(&frame, format, 40) else {
                eprintln!("skipped: this machine has no graphics adapter");
                return;
            };
            // 5x3 in 64x40: twelve times, 2 pixels of black on each side.
            for y in 0..40usize {
                for x in 0..64usize {
                    let pixel = &pixels[256 * y + 4 * x..][..3];
                    let inside = (2..62).contains(&x) && (2..38).contains(&y);
                    let expected = match inside {
                        true => {
                            let start = ((y - 2) / 12 * 5 + (x - 2) / 12) * 3;
                            rgb[start..start + 3].to_vec()
                        }
                        false => vec![0; 3],
                    };
                    let close = pixel
                        .iter()
                        .zip(&expected)
                        .all(|(a, b)| a.abs_diff(*b) <= 1);
                    assert!(
                        close,
                        "{format:?} ({x}, {y}): {pixel:?}, expected {expected:?}"
                    );
                }
            }
        }
    }
}
