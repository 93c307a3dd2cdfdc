use super::*;

fn html(text: &str) -> String {
    to_html(&parse(text))
}

#[test]
fn the_subset_becomes_html() {
    let text = "# Title\n\nA **b** *c* `d<` [e](https://x.example/?a=1&b=2) \
                ![map](img/map.png)\n\n- one\n- two\n  1. deep\n\n#### Small";
    assert_eq!(
        html(text),
        "<h3>Title</h3>\n<p>A <strong>b</strong> <em>c</em> <code>d&lt;</code> \
         <a href=\"https://x.example/?a=1&amp;b=2\" rel=\"noopener noreferrer\">e</a> \
         <img src=\"img/map.png\" alt=\"map\"></p>\n\
         <ul><li>one</li><li>two<ol><li>deep</li></ol></li></ul>\n<h4>Small</h4>\n"
    );
}

#[test]
fn everything_else_becomes_text() {
    let hostile = [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "[x](javascript:alert(1))",
        "[x](data:text/html,boo)",
        "[x](//evil.example)",
        "[x](https://bank.example@evil.example/)",
        "![x](https://evil.example/pixel.png)",
        "![x](../../secret.png)",
        "![x](/etc/passwd)",
        "![x](%2e%2e/a.png)",
        "<a href=\"javascript:alert(1)\">x</a>",
        "```html\n<b>bold</b>\n```",
        "> <iframe src=x>",
        "<style>*{display:none}</style>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
    ];
    for text in hostile {
        let out = html(text);
        let bare = ["<p>", "</p>", "<br>", "\n"]
            .iter()
            .fold(out.clone(), |left, tag| left.replace(tag, ""));
        assert!(!bare.contains('<'), "{text:?} gave {out:?}");
        assert!(!out.trim().is_empty(), "{text:?} vanished");
    }
    assert_eq!(html("<b>x</b>"), "<p>&lt;b&gt;x&lt;/b&gt;</p>\n");
    assert_eq!(html("> quoted"), "<p>quoted</p>\n");
}

#[test]
fn nesting_is_bounded_and_nothing_is_lost() {
    let deep = format!("{}end", "- ".repeat(5_000));
    let out = html(&deep);
    assert!(out.matches("<ul>").count() <= DEPTH_MAX);
    assert!(out.contains("end"));
    html(&"*a **b ".repeat(20_000));
    html(&"> ".repeat(20_000));
}

#[test]
fn plain_text_keeps_addresses_and_lists() {
    let text = "### News\n\nSee [the map](https://x.example/).\n\n3. a\n4. b\n\n   more";
    assert_eq!(
        to_text(&parse(text)),
        "News\n\nSee the map (https://x.example/).\n\n3. a\n4. b\n   more\n"
    );
}

#[test]
fn escaped_text_shows_exactly_itself() {
    for text in ["a*b*c", "[x](y)", "<b>", "# no", "`code`", "a_b_", "\\", "1 < 2 & 3"] {
        assert_eq!(
            to_text(&parse(&format!("x {}", escape(text)))),
            format!("x {text}\n"),
            "{text:?}"
        );
    }
}

#[test]
fn discord_gets_its_own_marks_and_no_mentions_of_ours() {
    let text = "### Added\n\n- **Market:** opens, see [map](https://x.example/a_(b)).\n- <@123> :smile: a\\*b";
    assert_eq!(
        to_discord(&parse(text)),
        ["### Added\n- **Market:** opens, see [map](<https://x.example/a_%28b%29>).\n- \\<\\@123\\> \\:smile\\: a\\*b"]
            .map(|text| text.replace("**Market:**", "**Market\\:**"))
    );
}

#[test]
fn discord_parts_respect_the_limit_and_lose_no_word() {
    let mut text = String::new();
    let mut expected = Vec::new();
    for block in 0..40 {
        text.push_str(&format!("### Head{block}\n\n"));
        expected.push(format!("Head{block}"));
        for item in 0..5 {
            text.push_str(&format!("- **bold{block}x{item}** 🏹 plain{block}x{item}\n"));
            expected.push(format!("bold{block}x{item}"));
            expected.push(format!("plain{block}x{item}"));
        }
        text.push('\n');
    }
    let long: Vec<String> = (0..900).map(|n| format!("word{n}")).collect();
    text.push_str(&format!("**{}**\n\n{}\n", long.join(" "), "x".repeat(5_000)));
    expected.extend(long);
    let parts = to_discord(&parse(&text));
    let everything = parts.join(" ");
    assert!(parts.len() > 3);
    for part in &parts {
        assert!(
            discord::units(part) <= DISCORD_CONTENT_UNITS_MAX,
            "{} units",
            discord::units(part)
        );
        assert_eq!(part.matches("**").count() % 2, 0, "a mark is left open in {part:?}");
        assert!(
            !part.lines().last().unwrap().starts_with("###"),
            "a heading over nothing: {part:?}"
        );
    }
    let found: std::collections::HashSet<&str> =
        everything.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for word in &expected {
        assert!(found.contains(word.as_str()), "{word} is lost");
    }
    assert_eq!(everything.matches('x').count(), text.matches('x').count());
}

#[test]
fn a_heading_goes_over_to_the_next_message_with_its_text() {
    let text = format!("{}\n\n### Fixed\n\n{}", "a".repeat(1_900), "b".repeat(500));
    let parts = to_discord(&parse(&text));
    assert_eq!(parts, ["a".repeat(1_900), format!("### Fixed\n{}", "b".repeat(500))]);
}
