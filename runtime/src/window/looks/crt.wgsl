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
// Share of light that spreads to the neighbourhood.
const GLOW = 0.14;

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

// The mean light around a place.
fn glow(place: vec2f) -> vec3f {
    let reach = vec2f(1.3) / sizes.frame;
    var light = textureSampleLevel(frame, blending, place + reach * vec2f(1.0, 0.4), 0.0).rgb;
    light += textureSampleLevel(frame, blending, place + reach * vec2f(-0.4, 1.0), 0.0).rgb;
    light += textureSampleLevel(frame, blending, place + reach * vec2f(-1.0, -0.4), 0.0).rgb;
    light += textureSampleLevel(frame, blending, place + reach * vec2f(0.4, -1.0), 0.0).rgb;
    return light * 0.25;
}

@fragment
fn fragment(corner: Corner) -> @location(0) vec4f {
    let place = bent(corner.place);
    // One pixel of the screen of soft edge, where the glass ends.
    let inside = (0.5 - abs(place - 0.5)) * sizes.shown;
    let glass = clamp(min(inside.x, inside.y) + 0.5, 0.0, 1.0);
    let sharp = light_at(place, max(vec2f(0.7, 0.4), min(sizes.frame / sizes.shown, vec2f(1.0))));
    let light = mix(sharp, glow(place), GLOW);
    return to_target(min(light * line_light(place.y, light) * mask(corner.position.x), vec3f(1.0)) * glass);
}
