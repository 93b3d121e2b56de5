//! Frames as text: a cell of the terminal is two pixels, the upper one the colour of a half block, the lower one the colour behind it.

use crate::error::Result;
use crate::picture_of;
use crate::settings::Filter;
use media::{Fit, Fitting};
use std::fmt::Write;
use worlds::Frame;

type Rgb = [u8; 3];

/// The colours that a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// All of them, 8 bits each of red, green and blue.
    True,
    /// xterm's 256: a cube of 6x6x6 and 24 greys.
    Palette,
}

impl Colours {
    /// What a terminal says of itself in `COLORTERM` and `TERM`. Those that say nothing are taken to have a palette, as nearly all have.
    pub fn of(colour_term: Option<&str>, term: Option<&str>) -> Self {
        let direct = |term: &str| {
            ["direct", "kitty", "ghostty", "wezterm"]
                .iter()
                .any(|name| term.contains(name))
        };
        match (colour_term, term) {
            (Some("truecolor" | "24bit"), _) => Self::True,
            (_, Some(term)) if direct(term) => Self::True,
            _ => Self::Palette,
        }
    }

    /// The escape sequence's numbers for a colour.
    fn code(self, colour: Rgb, out: &mut String) {
        let [red, green, blue] = colour;
        // Writing to a string cannot fail.
        let _ = match self {
            Self::True => write!(out, "2;{red};{green};{blue}"),
            Self::Palette => write!(out, "5;{}", nearest_in_palette(colour)),
        };
    }
}

/// Number of the colour of xterm's palette that is nearest to `colour`. The first sixteen are left out, since terminals differ in them.
fn nearest_in_palette(colour: Rgb) -> u8 {
    const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let distance = |other: Rgb| -> u32 {
        let differences = colour
            .iter()
            .zip(other)
            .map(|(&a, b)| u32::from(a.abs_diff(b)));
        differences.map(|difference| difference * difference).sum()
    };
    let step = |value: u8| {
        (0..6u8)
            .min_by_key(|&i| STEPS[usize::from(i)].abs_diff(value))
            .unwrap_or(0)
    };
    let [r, g, b] = colour.map(step);
    let cube = [r, g, b].map(|i| STEPS[usize::from(i)]);
    let mean = colour.iter().map(|&value| u32::from(value)).sum::<u32>() / 3;
    let grey = (mean.saturating_sub(3) / 10).min(23) as u8;
    match distance([8 + 10 * grey; 3]) < distance(cube) {
        true => 232 + grey,
        false => 16 + 36 * r + 6 * g + b,
    }
}

/// A cell: its upper and its lower pixel.
type Cell = [Rgb; 2];

/// What a terminal shows: a picture, and a line of text below it.
pub struct Canvas {
    colours: Colours,
    /// Columns and rows, and what the cells of all rows but the last show; `None` for what is not known.
    shown: Option<((u16, u16), Vec<Cell>)>,
}

impl Canvas {
    /// A canvas that knows nothing of what is on the screen.
    pub fn new(colours: Colours) -> Self {
        Self {
            colours,
            shown: None,
        }
    }

    /// Appends to `out` what makes a terminal of `size` (columns, rows) show `frame` with `status` below: only what differs from what was
    /// drawn last.
    ///
    /// # Errors
    /// When the picture cannot be resized.
    pub fn draw(
        &mut self,
        out: &mut String,
        frame: &Frame,
        size: (u16, u16),
        status: &str,
    ) -> Result<()> {
        let (columns, rows) = size;
        let cells = cells(frame, columns, rows.saturating_sub(1))?;
        let before = match self.shown.take() {
            Some((before, cells)) if before == size => Some(cells),
            _ => {
                out.push_str("\x1b[0m\x1b[2J");
                None
            }
        };
        let mut pen = Pen::new(self.colours);
        for (row, line) in cells.chunks(usize::from(columns).max(1)).enumerate() {
            let start = row * usize::from(columns);
            let mut at = None;
            for (column, cell) in line.iter().enumerate() {
                if before
                    .as_ref()
                    .is_some_and(|before| before.get(start + column) == Some(cell))
                {
                    continue;
                }
                if at != Some(column) {
                    let _ = write!(out, "\x1b[{};{}H", row + 1, column + 1);
                }
                pen.draw(out, *cell);
                at = Some(column + 1);
            }
        }
        let status: String = status.chars().take(usize::from(columns)).collect();
        let _ = write!(out, "\x1b[0m\x1b[{rows};1H{status}\x1b[K");
        self.shown = Some((size, cells));
        Ok(())
    }
}

/// The colours that the terminal draws in at the moment.
struct Pen {
    colours: Colours,
    cell: Option<Cell>,
}

impl Pen {
    fn new(colours: Colours) -> Self {
        Self {
            colours,
            cell: None,
        }
    }

    fn draw(&mut self, out: &mut String, cell: Cell) {
        for (index, ground) in ["38", "48"].into_iter().enumerate() {
            if self.cell.is_none_or(|before| before[index] != cell[index]) {
                let _ = write!(out, "\x1b[{ground};");
                self.colours.code(cell[index], out);
                out.push('m');
            }
        }
        self.cell = Some(cell);
        out.push('\u{2580}');
    }
}

/// The cells of `columns` times `rows` with the frame in their middle, on black: every pixel enlarged by the same whole factor, or, where there is
/// too little room, all of it made smaller.
fn cells(frame: &Frame, columns: u16, rows: u16) -> Result<Vec<Cell>> {
    let (columns, rows) = (usize::from(columns), usize::from(rows));
    let (width, height) = (columns, 2 * rows);
    let mut pixels = vec![[0u8; 3]; width * height];
    if !pixels.is_empty() {
        let place = crate::letterbox(
            (width as u32, height as u32),
            (frame.size().width as u32, frame.size().height as u32),
            Filter::Integer,
        );
        let picture = media::fit_picture(
            &picture_of(frame)?,
            &Fitting {
                width: (place.width.round() as u32).max(1),
                height: (place.height.round() as u32).max(1),
                fit: Fit::Stretch,
                crop: None,
            },
        )?;
        // Pixels of one row of a cell stay together when a picture begins at its upper half.
        let (left, top) = (place.x as usize, place.y as usize / 2 * 2);
        let lines = picture.rgb.chunks_exact(3 * picture.width as usize);
        for (line, pixels) in lines.zip(pixels.chunks_exact_mut(width).skip(top)) {
            for (pixel, target) in line
                .as_chunks::<3>()
                .0
                .iter()
                .zip(pixels.iter_mut().skip(left))
            {
                *target = *pixel;
            }
        }
    }
    let pixel = |x: usize, y: usize| pixels[y * width + x];
    let cell = |index: usize| {
        let (x, y) = (index % columns, 2 * (index / columns));
        [pixel(x, y), pixel(x, y + 1)]
    };
    Ok((0..columns * rows).map(cell).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::FrameSize;
    use proptest::prelude::*;

    /// A frame whose pixels all differ.
    fn frame(height: usize, width: usize) -> Frame {
        let rgb = (0..height * width).flat_map(|i| [(i % 256) as u8, (i / 256) as u8, 77]);
        Frame::new(FrameSize { height, width }, rgb.collect()).unwrap()
    }

    /// A terminal that understands what the canvas writes, and nothing else.
    struct Screen {
        columns: usize,
        cells: Vec<Cell>,
    }

    impl Screen {
        fn new(columns: u16, rows: u16) -> Self {
            let (columns, rows) = (usize::from(columns), usize::from(rows));
            Self {
                columns,
                cells: vec![[[9; 3]; 2]; columns * rows],
            }
        }

        fn take(&mut self, text: &str) {
            let (mut at, mut pen) = (0, [[0u8; 3]; 2]);
            let mut rest = text;
            while let Some(next) = rest.chars().next() {
                rest = &rest[next.len_utf8()..];
                match next {
                    '\x1b' => {
                        let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                        let (numbers, command) = (&rest[1..end], &rest[end..=end]);
                        let numbers: Vec<usize> =
                            numbers.split(';').filter_map(|n| n.parse().ok()).collect();
                        match (command, &numbers[..]) {
                            ("H", [row, column]) => at = (row - 1) * self.columns + column - 1,
                            ("m", [ground, 2, r, g, b]) => {
                                pen[usize::from(*ground == 48)] = [*r as u8, *g as u8, *b as u8]
                            }
                            ("m", [0]) | ("K", []) | ("J", [2]) => {}
                            other => panic!("{other:?}"),
                        }
                        rest = &rest[end + 1..];
                    }
                    '\u{2580}' => {
                        self.cells[at] = pen;
                        at += 1;
                    }
                    _ => at += 1,
                }
            }
        }
    }

    #[test]
    fn a_frame_of_64_pixels_fills_64_columns_and_32_rows() {
        let frame = frame(64, 64);
        let mut screen = Screen::new(64, 33);
        let mut text = String::new();
        Canvas::new(Colours::True)
            .draw(&mut text, &frame, (64, 33), "status")
            .unwrap();
        screen.take(&text);
        for (index, pixel) in frame.rgb().chunks_exact(3).enumerate() {
            let (x, y) = (index % 64, index / 64);
            assert_eq!(screen.cells[y / 2 * 64 + x][y % 2], pixel, "{x}, {y}");
        }
        assert!(text.ends_with("\x1b[33;1Hstatus\x1b[K"));
    }

    #[test]
    fn only_what_has_changed_is_written() {
        let (first, mut rgb) = (frame(64, 64), frame(64, 64).into_rgb());
        rgb[3 * 64 * 10 + 30] = 200;
        let second = Frame::new(first.size(), rgb).unwrap();
        let mut canvas = Canvas::new(Colours::True);
        let mut screen = Screen::new(64, 33);
        let mut texts = [(); 3].map(|()| String::new());
        for (text, frame) in texts.iter_mut().zip([&first, &second, &second]) {
            canvas.draw(text, frame, (64, 33), "").unwrap();
            screen.take(text);
        }
        assert_eq!(texts[1].matches('\u{2580}').count(), 1);
        assert_eq!(texts[2].matches('\u{2580}').count(), 0);
        assert_eq!(screen.cells[5 * 64 + 10][0][0], 200);
    }

    #[test]
    fn terminals_say_what_colours_they_have() {
        assert_eq!(
            Colours::of(Some("truecolor"), Some("xterm-256color")),
            Colours::True
        );
        assert_eq!(Colours::of(None, Some("xterm-kitty")), Colours::True);
        assert_eq!(Colours::of(None, Some("xterm-256color")), Colours::Palette);
        assert_eq!(Colours::of(None, None), Colours::Palette);
    }

    #[test]
    fn colours_of_the_palette_are_themselves() {
        for (colour, number) in [
            ([0, 0, 0], 16),
            ([255, 255, 255], 231),
            ([255, 0, 0], 196),
            ([8, 8, 8], 232),
            ([238, 238, 238], 255),
            ([0, 95, 135], 24),
        ] {
            assert_eq!(nearest_in_palette(colour), number, "{colour:?}");
        }
    }

    proptest! {
        #[test]
        fn frames_of_any_size_fit_terminals_of_any_size(height in 1usize..80, width in 1usize..80, columns in 0u16..120, rows in 0u16..60) {
            let mut text = String::new();
            Canvas::new(Colours::True).draw(&mut text, &frame(height, width), (columns, rows), "some status").unwrap();
            let cells = usize::from(columns) * usize::from(rows.saturating_sub(1));
            prop_assert_eq!(text.matches('\u{2580}').count(), cells);
        }
    }
}
