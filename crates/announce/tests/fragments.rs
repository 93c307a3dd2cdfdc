//! Change fragments, good and bad, one by one and as a folder.

use std::fs;

use entracte_announce::fragment::{
    self, Audience, FRAGMENT_BYTES_MAX, FragmentError, Kind, parse, read_folder,
};
use entracte_model::Hash;

const GOOD: &str = "+++
kind = \"added\"
audience = \"players\"
area = \"market\"
refs = [\"a1b2c3\", \"#12\"]
smoke = [\"GET /market\"]
watch = [\"/market\"]
migration = \"irreversible\"
+++

## en
It opens.

### Prices
- low

## fr
Il ouvre.
";

fn error(text: &str) -> FragmentError {
    parse("changes/open-market.md", text.as_bytes()).expect_err("it must be refused")
}

#[test]
fn a_good_fragment_is_read_whole() {
    let read = parse("changes/open-market.md", GOOD.as_bytes()).unwrap();
    assert_eq!(
        (read.slug.as_str(), read.kind, &read.audience),
        ("open-market", Kind::Added, &Audience::Players)
    );
    assert_eq!(read.area.as_deref(), Some("market"));
    assert_eq!(read.refs, ["a1b2c3", "#12"]);
    assert_eq!(
        (read.smoke, read.watch),
        (vec!["GET /market".to_owned()], vec!["/market".to_owned()])
    );
    assert_eq!(read.reversible, Some(false));
    assert_eq!(read.text["en"], "It opens.\n\n### Prices\n- low");
    assert_eq!(read.text["fr"], "Il ouvre.");
    assert_eq!(read.hash, Hash::of(GOOD.as_bytes()));
}

#[test]
fn the_habits_of_editors_change_nothing() {
    let windows = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    let (plain, windows) =
        (parse("a.md", GOOD.as_bytes()).unwrap(), parse("a.md", windows.as_bytes()).unwrap());
    assert_eq!(windows.text, plain.text);
    assert_eq!(windows.refs, plain.refs);
}

#[test]
fn errors_name_the_line_and_the_way_out() {
    let cases = [
        (GOOD.replace("area", "aera"), 4, "`aera`", "did you mean `area`?"),
        (GOOD.replace("\"added\"", "\"add\""), 2, "`add`", "did you mean `added`?"),
        (
            GOOD.replace("refs = [\"a1b2c3\", \"#12\"]", "refs = \"a\""),
            5,
            "string",
            "write refs = [\"…\"]",
        ),
        (GOOD.replace("\"#12\"", "12"), 5, "integer", "write it in quotes"),
        (
            GOOD.replace("## fr", "## Français"),
            17,
            "`## Français`",
            "use ### for a heading inside the text",
        ),
        (GOOD.replace("## fr", "## en"), 17, "`## en`", "put both texts in one section"),
        (GOOD.replace("## en\n", ""), 11, "`It opens.`", "say which language the text is in"),
        (GOOD.replace("Il ouvre.", " "), 17, "nothing", "write the text, or remove the section"),
        (GOOD.replace("kind = \"added\"\n", ""), 2, "no such key", "add kind = \"security\""),
        (
            GOOD.replace("\"players\"", "\"none\""),
            3,
            "no such key",
            "say in one line why nobody is told",
        ),
        (
            GOOD.replace("\"added\"", "\"internal\""),
            3,
            "`players`",
            "choose another kind if players can see the change",
        ),
        (GOOD.replacen("+++", "---", 1), 1, "`---`", "begin the file with `+++`, keys, `+++`"),
        (
            "+++\nkind = \"added\"\n".to_owned(),
            3,
            "the end of the file",
            "close the keys with a line `+++`",
        ),
        (
            GOOD.split("## en").next().unwrap().to_owned(),
            10,
            "none",
            "add a section such as `## en` below the second `+++`",
        ),
    ];
    for (text, line, found, hint) in cases {
        let error = error(&text);
        assert_eq!(
            (error.line, error.found.as_str(), error.hint.as_str()),
            (line, found, hint),
            "in {text}"
        );
        assert!(
            error.to_string().starts_with(&format!("changes/open-market.md:{line}: expected ")),
            "{error}"
        );
    }
    let broken = error(&GOOD.replace("area = \"market\"", "area = \"market"));
    assert_eq!(broken.line, 4, "{broken}");
    assert_eq!(error(&GOOD.replace("kind =", "kind = \"fixed\"\nkind =")).line, 3);
}

#[test]
fn bytes_sizes_and_names_that_cannot_be_are_refused() {
    assert!(parse("a.md", b"+++\nkind = \"\xff\"\n+++\n").unwrap_err().line == 2);
    let huge = vec![b'x'; FRAGMENT_BYTES_MAX + 1];
    assert!(parse("a.md", &huge).unwrap_err().expected.contains("at most"));
    for name in ["A.md", "-a.md", "a b.md", ".md", "é.md"] {
        assert!(parse(name, GOOD.as_bytes()).is_err(), "{name} was taken");
    }
}

#[test]
fn what_is_written_new_can_be_read_once_it_has_a_text() {
    let mut texts =
        std::collections::BTreeMap::from([("en".to_owned(), "It \"opens\".".to_owned())]);
    let refs = ["a\"b\\".to_owned()];
    let audience = Audience::None { reason: "nobody \"sees\" it".to_owned() };
    let text = fragment::render_new(Kind::Fixed, &audience, Some("the market"), &refs, &texts);
    let read = parse("x.md", text.as_bytes()).unwrap();
    assert_eq!(
        (read.kind, read.audience, read.refs.as_slice()),
        (Kind::Fixed, audience, &refs[..])
    );
    assert_eq!((read.area.as_deref(), &read.text), (Some("the market"), &texts));
    texts.insert("fr".to_owned(), String::new());
    let open = fragment::render_new(Kind::Fixed, &Audience::Players, None, &[], &texts);
    assert_eq!(parse("x.md", open.as_bytes()).unwrap_err().expected, "a text below `## fr`");
}

#[test]
fn a_folder_gives_all_fragments_sorted() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.md", "a.md", "c.md"] {
        fs::write(dir.path().join(name), GOOD).unwrap();
    }
    fs::write(dir.path().join("README.md"), "How to write one.").unwrap();
    let slugs: Vec<String> =
        read_folder(dir.path()).unwrap().into_iter().map(|one| one.slug).collect();
    assert_eq!(slugs, ["a", "b", "c"]);
    assert_eq!(read_folder(&dir.path().join("missing")).unwrap(), []);
}

#[test]
fn everything_that_does_not_belong_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.md"), GOOD).unwrap();
    fs::write(dir.path().join("b.md"), "no fragment").unwrap();
    fs::write(dir.path().join("c.txt"), GOOD).unwrap();
    fs::create_dir(dir.path().join("d.md")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("e.md")).unwrap();
    let errors = read_folder(dir.path()).unwrap_err();
    let names: Vec<&str> =
        errors.iter().map(|error| error.file.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["b.md", "c.txt", "d.md", "e.md"]);
}
