//! `bench plot`: a picture of what `bench packets --json` printed.

use std::{collections::BTreeMap, fmt::Write as _, io::Read as _};

use anyhow::{Context, Result, ensure};

use super::packets::Figure;

/// Width of the picture and of its parts, in pixels.
const WIDTH: f64 = 860.0;
const LABELS: f64 = 170.0;
const NUMBERS: f64 = 60.0;
const BAR: f64 = 9.0;
const GAP: f64 = 10.0;
const TOP: f64 = 46.0;
const COLOURS: [&str; 4] = ["#1b6ca8", "#e08e0b", "#8a3ffc", "#198038"];

/// Reads the lines from standard input and prints the picture as SVG: nanoseconds above the floor,
/// by case, a bar for each number of flows.
///
/// # Errors
///
/// When a line is not what `bench packets --json` prints, or there is none.
pub fn run() -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let mut figures = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        figures.push(serde_json::from_str::<Figure>(line).with_context(|| format!("not a figure: {line}"))?);
    }
    ensure!(
        !figures.is_empty(),
        "no figures on standard input: give what `bench packets --json` printed"
    );
    print!("{}", draw(&figures)?);
    Ok(())
}

fn draw(figures: &[Figure]) -> Result<String> {
    let mut cases: Vec<(&str, BTreeMap<u64, f64>)> = Vec::new();
    for figure in figures.iter().filter(|figure| !figure.case.starts_with("floor")) {
        match cases.iter_mut().find(|(name, _)| *name == figure.case) {
            Some((_, bars)) => {
                bars.insert(figure.flows, figure.over_floor_ns);
            }
            None => cases.push((&figure.case, BTreeMap::from([(figure.flows, figure.over_floor_ns)]))),
        }
    }
    let mut flows: Vec<u64> = figures.iter().map(|figure| figure.flows).collect();
    flows.sort_unstable();
    flows.dedup();
    let most = figures.iter().map(|figure| figure.over_floor_ns).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS - NUMBERS) / most;
    let height = TOP + cases.iter().map(|(_, bars)| bars.len() as f64 * BAR + GAP).sum::<f64>();

    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">"#
    )?;
    writeln!(svg, r##"<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>"##)?;
    writeln!(
        svg,
        r#"<text x="8" y="16" font-size="13">nanoseconds per packet above the floor</text>"#
    )?;
    for (index, count) in flows.iter().enumerate() {
        let x = LABELS + 130.0 * index as f64;
        let colour = COLOURS[index % COLOURS.len()];
        writeln!(svg, r#"<rect x="{x}" y="26" width="10" height="10" fill="{colour}"/>"#)?;
        let word = if *count == 1 { "flow" } else { "flows" };
        writeln!(svg, r#"<text x="{}" y="35">{count} {word}</text>"#, x + 15.0)?;
    }
    let mut y = TOP;
    for (name, bars) in &cases {
        let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
        writeln!(
            svg,
            r#"<text x="{}" y="{middle}" text-anchor="end">{name}</text>"#,
            LABELS - 8.0
        )?;
        for (count, nanoseconds) in bars {
            let index = flows.iter().position(|known| known == count).unwrap_or(0);
            let length = (nanoseconds * scale).max(0.5);
            writeln!(
                svg,
                r#"<rect x="{LABELS}" y="{y}" width="{length:.1}" height="{}" fill="{}"/>"#,
                BAR - 1.0,
                COLOURS[index % COLOURS.len()]
            )?;
            writeln!(
                svg,
                r#"<text x="{:.1}" y="{}" font-size="9">{nanoseconds:.0}</text>"#,
                LABELS + length + 4.0,
                y + BAR - 1.5
            )?;
            y += BAR;
        }
        y += GAP;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_bars_and_floors_have_none() {
        let figure = |case: &str, flows, over_floor_ns| Figure {
            case: case.to_owned(),
            flows,
            min_ns: 0.0,
            median_ns: 0.0,
            floor: "null".to_owned(),
            over_floor_ns,
        };
        let svg = draw(&[
            figure("floor-null", 1, 0.0),
            figure("nat-v4-tcp-hit", 1, 50.0),
            figure("nat-v4-tcp-hit", 65_536, 200.0),
        ])
        .unwrap();
        assert!(!svg.contains("floor-null") && svg.contains("nat-v4-tcp-hit"));
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 2);
    }
}
