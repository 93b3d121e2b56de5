//! Looks, drawn off-screen and read back.

use super::*;

const FORMATS: [TextureFormat; 2] = [TextureFormat::Rgba8Unorm, TextureFormat::Rgba8UnormSrgb];

/// Rows of pixels that were drawn.
struct Drawn {
    width: usize,
    height: usize,
    rgb: Vec<[u8; 3]>,
}

impl Drawn {
    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        self.rgb[y * self.width + x]
    }

    /// Mean linear light.
    fn light(&self) -> f64 {
        let bytes = self.rgb.as_flattened();
        bytes.iter().map(|&byte| linear(byte)).sum::<f64>() / bytes.len() as f64
    }
}

fn linear(byte: u8) -> f64 {
    let value = f64::from(byte) / 255.0;
    match value <= 0.04045 {
        true => value / 12.92,
        false => ((value + 0.055) / 1.055).powf(2.4),
    }
}

/// A device to draw with; `None`, and a word of it, where this machine has no graphics at all, not even in software.
fn device() -> Option<(wgpu::Device, wgpu::Queue)> {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let instance = wgpu::Instance::new(descriptor);
    let options = wgpu::RequestAdapterOptions::default();
    let Ok(adapter) = pollster::block_on(instance.request_adapter(&options)) else {
        eprintln!("skipped: this machine has no graphics adapter");
        return None;
    };
    let request = adapter.request_device(&wgpu::DeviceDescriptor {
        required_limits: wgpu::Limits::downlevel_webgl2_defaults(),
        ..wgpu::DeviceDescriptor::default()
    });
    Some(pollster::block_on(request).unwrap())
}

/// Draws a frame into a picture of `width` times `height` pixels.
fn draw(
    (device, queue): &(wgpu::Device, wgpu::Queue),
    frame: &Frame,
    format: TextureFormat,
    filter: Filter,
    (width, height): (u32, u32),
) -> Drawn {
    let size = wgpu::Extent3d {
        width,
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
    let screen = Screen::new(device, format, frame.size());
    screen.show(queue, frame);
    let view = target.create_view(&wgpu::TextureViewDescriptor::default());
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    drop(screen.draw(queue, &mut encoder, &view, (width, height), filter));
    let stride = (4 * width).next_multiple_of(256);
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: u64::from(stride * height),
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(stride),
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
    let rows = bytes.chunks_exact(stride as usize);
    let pixels = rows.flat_map(|row| row[..4 * width as usize].chunks_exact(4));
    Drawn {
        width: width as usize,
        height: height as usize,
        rgb: pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
    }
}

fn frame(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Frame {
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let rgb = places.flat_map(|(x, y)| pixel(x, y)).collect();
    Frame::new(FrameSize { height, width }, rgb).unwrap()
}

fn close(a: [u8; 3], b: [u8; 3], tolerance: u8) -> bool {
    a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= tolerance)
}

#[test]
fn with_integer_scaling_every_pixel_becomes_a_crisp_square_of_its_own_colour() {
    let Some(device) = device() else { return };
    // Every byte occurs.
    let colour = |x: usize, y: usize| {
        let number = y * 10 + x;
        [number, number + 90, number + 180].map(|value| (value % 256) as u8)
    };
    let frame = frame(10, 9, colour);
    for format in FORMATS {
        // 10x9 in 128x110: twelve times, 4 pixels of black left and right, 1 above and below.
        let drawn = draw(&device, &frame, format, Filter::Integer, (128, 110));
        for y in 0..110 {
            for x in 0..128 {
                let inside = (4..124).contains(&x) && (1..109).contains(&y);
                let expected = match inside {
                    true => colour((x - 4) / 12, (y - 1) / 12),
                    false => [0; 3],
                };
                let pixel = drawn.at(x, y);
                let same = pixel == expected;
                assert!(same, "{format:?} ({x}, {y}): {pixel:?}, not {expected:?}");
            }
        }
    }
}

#[test]
fn sharp_pixels_are_flat_inside_and_blend_over_one_pixel_of_the_screen_at_most() {
    let Some(device) = device() else { return };
    let colour = |x: usize, y: usize| match (x + y) % 2 {
        0 => [250, 30, 60],
        _ => [10, 200, 60],
    };
    let frame = frame(7, 5, colour);
    for format in FORMATS {
        // 7x5 in 100x80: 14.29 times, 100x71.
        let drawn = draw(&device, &frame, format, Filter::Sharp, (100, 80));
        let (left, top, width, height) = (0.0, 4.0, 100.0, 71.0);
        let mut blended = 0;
        for y in 4..75usize {
            for x in 0..100usize {
                // The edges of the screen's pixel, in pixels of the frame.
                let across = |edge: f64| (edge - left) * 7.0 / width;
                let down = |edge: f64| (edge - top) * 5.0 / height;
                let (x0, x1) = (across(x as f64), across(x as f64 + 1.0));
                let (y0, y1) = (down(y as f64), down(y as f64 + 1.0));
                let pixel = drawn.at(x, y);
                let whole = |from: f64, to: f64| (from + 1e-3).floor() == (to - 1e-3).floor();
                if whole(x0, x1) && whole(y0, y1) {
                    let expected = colour((x0 + 1e-3) as usize, (y0 + 1e-3) as usize);
                    let same = close(pixel, expected, 2);
                    assert!(same, "{format:?} ({x}, {y}): {pixel:?}, not {expected:?}");
                } else {
                    blended += 1;
                    let (low, high) = ([10, 30, 60], [250, 200, 60]);
                    assert!((0..3).all(|i| (low[i]..=high[i]).contains(&pixel[i])));
                }
            }
        }
        // Six edges across and four down, a pixel each at most.
        assert!((1..=6 * 71 + 4 * 100).contains(&blended));
        assert!((0..100).all(|x| drawn.at(x, 3) == [0; 3] && drawn.at(x, 75) == [0; 3]));
    }
}

#[test]
fn half_of_two_colours_is_half_of_their_light() {
    let Some(device) = device() else { return };
    let frame = frame(2, 1, |x, _| [255 * x as u8; 3]);
    for format in FORMATS {
        // Three pixels for two: the middle one is half black and half white.
        let drawn = draw(&device, &frame, format, Filter::Sharp, (3, 3));
        assert_eq!(drawn.at(0, 1), [0; 3]);
        assert_eq!(drawn.at(2, 1), [255; 3]);
        assert!(close(drawn.at(1, 1), [188; 3], 2), "{:?}", drawn.at(1, 1));
    }
}

#[test]
fn a_tube_keeps_the_light_and_shows_lines() {
    let Some(device) = device() else { return };
    for side in [200, 512, 640, 900] {
        for grey in [30, 90, 160, 255u8] {
            let flat = frame(64, 64, |_, _| [grey; 3]);
            let mut lights = Vec::new();
            for format in FORMATS {
                let drawn = draw(&device, &flat, format, Filter::Crt, (side, side));
                // The corners of the glass are black: the middle nine tenths are what counts.
                let middle = middle(&drawn);
                lights.push(middle.light() / linear(grey));
                let column = (0..middle.height).map(|y| middle.at(middle.width / 2, y)[1]);
                let (least, most) = column.fold((255, 0), |(l, m), v| (v.min(l), v.max(m)));
                // Below three pixels a line there is nothing to show but noise.
                if side > 200 && grey < 255 {
                    assert!(most - least > 8, "{side} {grey}: {least} to {most}");
                }
            }
            let fine = lights.iter().all(|light| (0.85..=1.02).contains(light));
            assert!(fine, "{side} {grey}: {lights:.3?}");
            assert!((lights[0] - lights[1]).abs() < 0.02, "{lights:.3?}");
        }
    }
}

#[test]
fn a_tube_is_a_little_curved_and_its_picture_stays_where_it_is() {
    let Some(device) = device() else { return };
    let colour = |x: usize, y: usize| [(x * 3 + 40) as u8, (y * 3 + 40) as u8, 90];
    let picture = frame(64, 64, colour);
    let drawn = draw(&device, &picture, FORMATS[0], Filter::Crt, (640, 640));
    assert_eq!(drawn.at(0, 0), [0; 3], "the corners are behind the bezel");
    assert_ne!(drawn.at(0, 320), [0; 3], "the middle of each side is not");
    for (x, y) in [(32usize, 32usize), (16, 32), (40, 20)] {
        let square = part(&drawn, x * 10 - 10, y * 10 - 10, 30);
        let mean = |channel: usize| {
            let sum: f64 = square.rgb.iter().map(|pixel| linear(pixel[channel])).sum();
            sum / square.rgb.len() as f64
        };
        for (channel, byte) in colour(x, y).into_iter().enumerate() {
            let share = mean(channel) / linear(byte);
            assert!((0.85..1.15).contains(&share), "({x}, {y}): {share}");
        }
    }
}

fn middle(drawn: &Drawn) -> Drawn {
    let margin = drawn.width / 20;
    part(drawn, margin, margin, drawn.width - 2 * margin)
}

fn part(drawn: &Drawn, x: usize, y: usize, side: usize) -> Drawn {
    let rows = y..y + side;
    let rgb = rows
        .flat_map(|row| (x..x + side).map(move |column| (column, row)))
        .map(|(column, row)| drawn.at(column, row))
        .collect();
    Drawn {
        width: side,
        height: side,
        rgb,
    }
}
