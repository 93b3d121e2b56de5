// What all looks share: one triangle over the viewport, the frame in linear light, and the way back to what the target takes.

struct Corner {
    @builtin(position) position: vec4f,
    // From (0, 0) in the frame's upper left corner to (1, 1) in the lower right one.
    @location(0) place: vec2f,
}

struct Sizes {
    // Width and height in pixels of the frame.
    frame: vec2f,
    // Width and height in pixels of the place where it is shown.
    shown: vec2f,
    // 1 where the target wants sRGB numbers, 0 where it makes them of linear light by itself.
    encode: f32,
}

@group(0) @binding(0) var frame: texture_2d<f32>;
@group(0) @binding(1) var nearest: sampler;
@group(0) @binding(2) var blending: sampler;
@group(0) @binding(3) var<uniform> sizes: Sizes;

// One triangle that is large enough to cover the viewport.
@vertex
fn vertex(@builtin(vertex_index) index: u32) -> Corner {
    let place = vec2f(f32((index << 1u) & 2u), f32(index & 2u));
    return Corner(vec4f(place.x * 2.0 - 1.0, 1.0 - place.y * 2.0, 0.0, 1.0), place);
}

// Turns linear light into the target's numbers.
fn to_target(light: vec3f) -> vec4f {
    let low = light * 12.92;
    let high = 1.055 * pow(max(light, vec3f(0.0)), vec3f(1.0 / 2.4)) - 0.055;
    let encoded = select(high, low, light <= vec3f(0.0031308));
    return vec4f(mix(light, encoded, sizes.encode), 1.0);
}

// The frame's light at a place, where pixels are flat inside and blend into their neighbours across `width` pixels (of the frame) around each
// edge: 0 is hard, 1 is plain bilinear.
fn light_at(place: vec2f, width: vec2f) -> vec3f {
    let texel = place * sizes.frame - 0.5;
    let corner = floor(texel);
    let blend = clamp((texel - corner - 0.5) / width + 0.5, vec2f(0.0), vec2f(1.0));
    return textureSampleLevel(frame, blending, (corner + blend + 0.5) / sizes.frame, 0.0).rgb;
}
