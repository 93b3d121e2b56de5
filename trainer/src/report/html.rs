//! A page of HTML in one file: text, tables, drawings and pictures, with nothing from elsewhere.

use worlds::Frame;

use crate::Result;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #ddd}
table{border-collapse:collapse}td,th{padding:.2em .8em .2em 0;text-align:left;vertical-align:top}tr+tr td{border-top:1px solid #eee}
img{image-rendering:pixelated;vertical-align:middle;margin:1px}.charts{display:flex;flex-wrap:wrap;gap:12px}
.scroll{overflow-x:auto}svg text{font:11px system-ui,sans-serif;fill:#555}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}h2{border-color:#444}tr+tr td{border-color:#333}svg text{fill:#aaa}}";

/// A page in the making.
pub(super) struct Page {
    text: String,
}

impl Page {
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        Self {
            text: format!(
                "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\n<style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
            ),
        }
    }

    /// Part of a page, to be added to one with [`Page::raw`].
    pub fn part() -> Self {
        Self {
            text: String::new(),
        }
    }

    /// Asks browsers to look again every so many seconds.
    pub fn refresh(&mut self, seconds: u32) {
        self.text += &format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n");
    }

    /// What looks wrong; nothing where nothing does.
    pub fn warnings(&mut self, warnings: &[String]) {
        if warnings.is_empty() {
            return;
        }
        self.heading("Warnings");
        self.text += "<ul>\n";
        for warning in warnings {
            self.text += &format!("<li>{}</li>\n", escape(warning));
        }
        self.text += "</ul>\n";
    }

    pub fn heading(&mut self, text: &str) {
        self.text += &format!("<h2>{}</h2>\n", escape(text));
    }

    pub fn paragraph(&mut self, text: &str) {
        self.text += &format!("<p>{}</p>\n", escape(text));
    }

    /// A table of names and figures.
    pub fn table(&mut self, rows: &[(String, String)]) {
        self.text += "<table>\n";
        for (name, value) in rows {
            self.text += &format!(
                "<tr><td>{}</td><td>{}</td></tr>\n",
                escape(name),
                escape(value)
            );
        }
        self.text += "</table>\n";
    }

    /// A table of labelled rows of cells that are HTML already; `head` has one entry more than each row has cells.
    pub fn grid(&mut self, head: &[&str], rows: &[(String, Vec<String>)]) {
        self.text += "<div class=\"scroll\"><table>\n<tr>";
        for cell in head {
            self.text += &format!("<th>{}</th>", escape(cell));
        }
        self.text += "</tr>\n";
        for (name, cells) in rows {
            self.text += &format!("<tr><td>{}</td>", escape(name));
            for cell in cells {
                self.text += &format!("<td>{cell}</td>");
            }
            self.text += "</tr>\n";
        }
        self.text += "</table></div>\n";
    }

    /// HTML as it is.
    pub fn raw(&mut self, html: &str) {
        self.text += html;
    }

    /// The text of a [`Page::part`].
    pub fn into_part(self) -> String {
        self.text
    }

    pub fn finish(self) -> String {
        self.text + "</body></html>\n"
    }
}

/// An image element with frames side by side.
pub(super) fn strip(frames: &[Frame], enlargement: usize) -> Result<String> {
    let Some(first) = frames.first() else {
        return Ok(String::new());
    };
    let size = first.size();
    let row_bytes = size.width * 3;
    let mut rgb = Vec::with_capacity(frames.len() * size.bytes());
    for row in 0..size.height {
        for frame in frames {
            rgb.extend_from_slice(&frame.rgb()[row * row_bytes..][..row_bytes]);
        }
    }
    let joined = nn::FrameSize {
        height: size.height,
        width: size.width * frames.len(),
    };
    let png = Frame::new(joined, rgb)?.to_png()?;
    Ok(format!(
        "<img width=\"{}\" height=\"{}\" alt=\"\" src=\"data:image/png;base64,{}\">",
        joined.width * enlargement,
        joined.height * enlargement,
        base64(&png)
    ))
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            text.push(match place <= chunk.len() {
                true => char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_rfc_4648() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn names_from_strangers_cannot_break_out_of_the_page() {
        let mut page = Page::new("<script>");
        page.table(&[("\"><img src=x>".to_owned(), "a & b".to_owned())]);
        let text = page.finish();
        assert!(!text.contains("<script>") && !text.contains("<img"));
        assert!(text.contains("a &amp; b"));
    }
}
