// A cathode ray tube: a slightly curved glass, lines that grow wider where they are bright, a faint mask of coloured stripes, and a glow.
// Everything is done in linear light, and lines and mask take no light away on the whole.

const PI = 3.14159265;
// How far edges bend, as a share of half the picture.
const CURVATURE = 0.022;
// Depth of the lines where the picture is dark and where it is bright.
const LINES_DARK = 0.55;
const LINES_BRIGHT = 0.16;
// Fewest pixels of the screen from line to line, and most lines from top to bottom.
const LINE_HEIGHT = 4.0;
const MOST_LINES = 300.0;
// Strength of the mask.
const MASK = 0.10;
// Share of light that spreads to the neighbourhood, and how far, in pixels of the frame.
const GLOW = 0.16;
const GLOW_NEAR = 1.1;
const GLOW_FAR = 2.4;
// Radius of the glass's corners, as a share of the short side.
const CORNER = 0.035;

// Where on the tube's face a place in the picture lies; the outermost lie outside.
fn bent(place: vec2f) -> vec2f {
    let centred = place * 2.0 - 1.0;
    return (centred * (1.0 + CURVATURE * centred.yx * centred.yx)) * 0.5 + 0.5;
}

// The light of a line's cross section, 1 on average over each line and over each pixel, so that no size gives moire.
fn line_light(place: f32, light: vec3f) -> vec3f {
    let height = sizes.shown.y / sizes.frame.y;
    // A frame of few rows has several lines a row, or it would look like a blind.
    let most = max(1.0, floor(MOST_LINES / sizes.frame.y));
    let count = sizes.frame.y * clamp(floor(height / LINE_HEIGHT), 1.0, most);
    let footprint = max(PI * count / sizes.shown.y, 1e-4);
    let seen = sin(min(footprint, PI)) / footprint;
    let depth = mix(vec3f(LINES_DARK), vec3f(LINES_BRIGHT), sqrt(light)) * seen;
    return 1.0 - depth * cos(2.0 * PI * place * count);
}

// Stripes of red, green and blue, each one pixel of the screen wide.
fn mask(column: f32) -> vec3f {
    let stripe = i32(column) % 3;
    let lit = vec3f(f32(stripe == 0), f32(stripe == 1), f32(stripe == 2));
    return 1.0 + MASK * (3.0 * lit - 1.0);
}

// The mean light in a ring around a place.
fn ring(place: vec2f, radius: f32) -> vec3f {
    let reach = vec2f(radius) / sizes.frame;
    var light = textureSampleLevel(frame, blending, place + reach * vec2f(0.92, 0.38), 0.0).rgb;
    light += textureSampleLevel(frame, blending, place + reach * vec2f(-0.38, 0.92), 0.0).rgb;
    light += textureSampleLevel(frame, blending, place + reach * vec2f(-0.92, -0.38), 0.0).rgb;
    light += textureSampleLevel(frame, blending, place + reach * vec2f(0.38, -0.92), 0.0).rgb;
    return light * 0.25;
}

// How much of a pixel of the screen lies on the glass, whose corners are round.
fn glass(place: vec2f) -> f32 {
    let radius = CORNER * min(sizes.shown.x, sizes.shown.y);
    let beyond = abs(place - 0.5) * sizes.shown - (0.5 * sizes.shown - radius);
    let outside = length(max(beyond, vec2f(0.0))) + min(max(beyond.x, beyond.y), 0.0) - radius;
    return clamp(0.5 - outside, 0.0, 1.0);
}

@fragment
fn fragment(corner: Corner) -> @location(0) vec4f {
    let place = bent(corner.place);
    let softness = max(vec2f(0.7, 0.4), min(sizes.frame / sizes.shown, vec2f(1.0)));
    let glow = 0.6 * ring(place, GLOW_NEAR) + 0.4 * ring(place, GLOW_FAR);
    let light = mix(light_at(place, softness), glow, GLOW);
    let lit = min(light * line_light(place.y, light) * mask(corner.position.x), vec3f(1.0));
    return to_target(lit * glass(place));
}
