// Draws the frame over the whole viewport, every pixel of the frame as a crisp square.

struct Corner {
    @builtin(position) position: vec4f,
    @location(0) place: vec2f,
}

@group(0) @binding(0) var frame: texture_2d<f32>;
@group(0) @binding(1) var nearest: sampler;

// One triangle that is large enough to cover the viewport.
@vertex
fn vertex(@builtin(vertex_index) index: u32) -> Corner {
    let place = vec2f(f32((index << 1u) & 2u), f32(index & 2u));
    return Corner(vec4f(place.x * 2.0 - 1.0, 1.0 - place.y * 2.0, 0.0, 1.0), place);
}

@fragment
fn fragment(corner: Corner) -> @location(0) vec4f {
    return textureSample(frame, nearest, corner.place);
}
