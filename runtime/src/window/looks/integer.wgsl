// Every pixel of the frame as a crisp square.

@fragment
fn fragment(corner: Corner) -> @location(0) vec4f {
    return to_target(textureSampleLevel(frame, nearest, corner.place, 0.0).rgb);
}
