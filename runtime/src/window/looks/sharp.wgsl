// Sharp-bilinear: pixels are flat inside, and where an edge between two of them falls inside a pixel of the screen, that pixel gets both in
// their shares of light. So any size looks even, and no edge is wider than one pixel of the screen.

@fragment
fn fragment(corner: Corner) -> @location(0) vec4f {
    let pixel = min(sizes.frame / sizes.shown, vec2f(1.0));
    return to_target(light_at(corner.place, pixel));
}
