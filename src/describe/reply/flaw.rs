//! Why a reply is not accepted: a closed list.

macro_rules! flaws {
    ($($(#[$doc:meta])* $name:ident = $words:literal;)*) => {
        /// Why a reply was not accepted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Flaw { $($(#[$doc])* $name,)* }

        impl Flaw {
            /// Every flaw, in the order in which they are looked for.
            pub const ALL: &'static [Flaw] = &[$(Flaw::$name,)*];

            /// The words kept with the row.
            pub fn as_str(self) -> &'static str {
                match self { $(Flaw::$name => $words,)* }
            }
        }
    };
}

flaws! {
    /// Nothing, or nothing that can be read.
    Empty = "empty reply";
    /// The model ran into its limit.
    CutOff = "reply was cut off";
    /// "I'm sorry, but I cannot".
    Refusal = "model refused";
    /// Not the JSON that was asked for.
    NotStructured = "reply is not the JSON that was asked for";
    /// JSON with the mark of another row.
    Swapped = "reply answers another row";
    /// Control tokens, the fence, field names of the prompt.
    LeakedTemplate = "reply leaks the template";
    /// Probabilities of tags.
    LeakedScores = "reply leaks scores";
    /// "The DSC00012.JPG Eiffel Tower".
    FileName = "reply has a file name";
    /// JSON, code, lists, several paragraphs.
    Markup = "reply is not a plain sentence";
    /// "Sure! Here is".
    Boilerplate = "reply opens with boilerplate";
    /// "The image shows".
    TalksAboutSources = "reply talks about the picture or its notes";
    /// Orders of the raw text in the reply, or what they asked for.
    InjectionEcho = "reply echoes an injected instruction";
    /// The same words again and again.
    Repetition = "reply repeats itself";
    /// Fewer words than asked for.
    TooShort = "reply is too short";
    /// More words than asked for.
    TooLong = "reply is too long";
    /// Not the language asked for.
    WrongLanguage = "reply is in another language";
    /// Not one word of what models saw or the web said.
    Unrelated = "reply has no word of its sources";
}
