#include "tokenizer/jinja_parser.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include "base/text.h"
#include "tokenizer/jinja_expression_parser.h"
#include "tokenizer/jinja_lexer.h"
#include "tokenizer/jinja_token_stream.h"

namespace ssa {
namespace {

constexpr int kMaxBlockDepth = 100;

/// Statements. Every parse_X is called behind the word X of "{% X", and reads up to and including
/// the end of its last tag.
class StatementParser {
 public:
  explicit StatementParser(std::string_view source)
      : tokens_(lex_jinja(source)), expressions_(tokens_) {}

  JinjaBlock run() { return parse_block({}); }

 private:
  using EndWords = std::initializer_list<std::string_view>;

  /// Statements up to a tag that begins with one of `ends`, whose word is then the current token;
  /// with no ends, up to the end of the source.
  JinjaBlock parse_block(EndWords ends) {
    if (++nesting_ > kMaxBlockDepth) {
      tokens_.fail_here("blocks are nested deeper than ", kMaxBlockDepth);
    }
    JinjaBlock block;
    while (!at_block_end(ends)) {
      parse_statement(block);
    }
    --nesting_;
    return block;
  }

  bool at_block_end(EndWords ends) {
    if (tokens_.at(JinjaTokenKind::End)) {
      if (ends.size() == 0) {
        return true;
      }
      tokens_.fail_expected(concat("'", *(ends.end() - 1), "'"));
    }
    const JinjaToken& word = tokens_.ahead();
    if (!tokens_.at(JinjaTokenKind::BlockBegin) || word.kind != JinjaTokenKind::Name ||
        std::find(ends.begin(), ends.end(), word.text) == ends.end()) {
      return false;
    }
    tokens_.take();
    return true;
  }

  void parse_statement(JinjaBlock& block) {
    const int line = tokens_.line();
    if (tokens_.at(JinjaTokenKind::Data)) {
      block.push_back({DataStatement{tokens_.take().text}, line});
    } else if (tokens_.at(JinjaTokenKind::PrintBegin)) {
      tokens_.take();
      block.push_back({PrintStatement{expressions_.parse_tuple()}, line});
      tokens_.expect(JinjaTokenKind::PrintEnd, "'}}'");
    } else {
      tokens_.expect(JinjaTokenKind::BlockBegin, "'{%'");
      parse_tag(block, line);
    }
  }

  void parse_tag(JinjaBlock& block, int line) {
    struct Tag {
      std::string_view word;
      void (StatementParser::*parse)(JinjaBlock&, int);
    };
    static constexpr std::array<Tag, 10> kTags = {
        {{"if", &StatementParser::parse_if},
         {"for", &StatementParser::parse_for},
         {"set", &StatementParser::parse_set},
         {"macro", &StatementParser::parse_macro},
         {"with", &StatementParser::parse_with},
         {"filter", &StatementParser::parse_filter},
         {"generation", &StatementParser::parse_generation},
         {"break", &StatementParser::parse_loop_control},
         {"continue", &StatementParser::parse_loop_control},
         {"raw", nullptr}}};  // the lexer reads it
    const std::string word = tokens_.at(JinjaTokenKind::Name) ? tokens_.current().text : "";
    for (const Tag& tag : kTags) {
      if (tag.word == word && tag.parse != nullptr) {
        return (this->*tag.parse)(block, line);
      }
    }
    if (word.empty()) {
      tokens_.fail_expected("the name of a tag");
    }
    std::string known;
    for (const Tag& tag : kTags) {
      known += concat(known.empty() ? "" : ", ", tag.word);
    }
    tokens_.fail_here("tag '", word, "' is not supported here (supported: ", known, ")");
  }

  void end_tag() { tokens_.expect(JinjaTokenKind::BlockEnd, "'%}'"); }

  /// The word of a closing tag, which parse_block found.
  void close_tag() {
    tokens_.take();
    end_tag();
  }

  void parse_if(JinjaBlock& block, int line) {
    IfStatement node;
    do {
      tokens_.take();  // "if" or "elif"
      JinjaExpressionPtr condition = expressions_.parse_tuple();
      end_tag();
      node.branches.emplace_back(std::move(condition), parse_block({"elif", "else", "endif"}));
    } while (tokens_.at_name("elif"));
    if (tokens_.at_name("else")) {
      close_tag();
      node.otherwise = parse_block({"endif"});
    }
    close_tag();
    block.push_back({std::move(node), line});
  }

  void parse_for(JinjaBlock& block, int line) {
    tokens_.take();
    ForStatement node;
    node.target = parse_target(false);
    if (!tokens_.skip_name("in")) {
      tokens_.fail_expected("'in'");
    }
    node.items = expressions_.parse_tuple(false);
    if (tokens_.skip_name("if")) {
      node.filter = expressions_.parse();
    }
    if (tokens_.at_name("recursive")) {
      tokens_.fail_here("'recursive' loops are not supported");
    }
    end_tag();
    ++loops_;
    node.body = parse_block({"else", "endfor"});
    --loops_;
    if (tokens_.at_name("else")) {
      close_tag();
      node.otherwise = parse_block({"endfor"});
    }
    close_tag();
    block.push_back({std::move(node), line});
  }

  void parse_loop_control(JinjaBlock& block, int line) {
    if (loops_ == 0) {
      tokens_.fail_here("'", tokens_.current().text, "' outside of a loop");
    }
    if (tokens_.take().text == "break") {
      block.push_back({BreakStatement{}, line});
    } else {
      block.push_back({ContinueStatement{}, line});
    }
    end_tag();
  }

  void parse_set(JinjaBlock& block, int line) {
    tokens_.take();
    JinjaTarget target = parse_target(true);
    if (tokens_.skip_symbol("=")) {
      block.push_back({SetStatement{std::move(target), expressions_.parse_tuple()}, line});
      return end_tag();
    }
    SetBlockStatement node;
    node.target = std::move(target);
    if (tokens_.skip_symbol("|")) {
      node.filter = expressions_.parse_filters(nullptr);
    }
    end_tag();
    node.body = parse_block({"endset"});
    close_tag();
    block.push_back({std::move(node), line});
  }

  /// a | a, b | (a, (b, c)) | and for `set`, namespace.attribute
  JinjaTarget parse_target(bool allow_attribute) {
    JinjaTarget first = parse_one_target(allow_attribute);
    if (!tokens_.at_symbol(",")) {
      return first;
    }
    JinjaTarget all;
    all.unpacked.push_back(std::move(first));
    while (tokens_.skip_symbol(",") &&
           (tokens_.at(JinjaTokenKind::Name) || tokens_.at_symbol("(")) && !tokens_.at_name("in")) {
      all.unpacked.push_back(parse_one_target(allow_attribute));
    }
    return all;
  }

  JinjaTarget parse_one_target(bool allow_attribute) {
    if (tokens_.skip_symbol("(")) {
      if (++nesting_ > kMaxBlockDepth) {
        tokens_.fail_here("brackets are nested deeper than ", kMaxBlockDepth);
      }
      JinjaTarget inner = parse_target(false);
      tokens_.expect_symbol(")");
      --nesting_;
      return inner;
    }
    JinjaTarget target{parse_new_name(), "", {}};
    if (allow_attribute && tokens_.skip_symbol(".")) {
      target.attribute = tokens_.expect_name();
    }
    return target;
  }

  /// A name that can be assigned to.
  std::string parse_new_name() {
    static constexpr std::array<std::string_view, 6> kConstants = {
        "true", "True", "false", "False", "none", "None"};
    std::string name = tokens_.expect_name();
    if (std::find(kConstants.begin(), kConstants.end(), name) != kConstants.end()) {
      tokens_.fail_here("'", name, "' cannot be assigned to");
    }
    return name;
  }

  void parse_macro(JinjaBlock& block, int line) {
    tokens_.take();
    MacroStatement node;
    node.name = parse_new_name();
    tokens_.expect_symbol("(");
    while (!tokens_.at_symbol(")")) {
      if (!node.parameters.empty()) {
        tokens_.expect_symbol(",");
      }
      parse_parameter(node.parameters);
    }
    tokens_.expect_symbol(")");
    end_tag();
    node.body = parse_body_outside_loops("endmacro");
    block.push_back({std::move(node), line});
  }

  void parse_parameter(std::vector<MacroParameter>& parameters) {
    MacroParameter parameter{parse_new_name(), nullptr};
    if (tokens_.skip_symbol("=")) {
      parameter.fallback = expressions_.parse();
    } else if (!parameters.empty() && parameters.back().fallback) {
      tokens_.fail_here(
          "parameter '", parameter.name, "' without default follows one with a default");
    }
    parameters.push_back(std::move(parameter));
  }

  /// A body that is a function of its own in jinja2, so that break and continue cannot leave it.
  JinjaBlock parse_body_outside_loops(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    JinjaBlock body = parse_block({end});
    loops_ = loops;
    close_tag();
    return body;
  }

  void parse_with(JinjaBlock& block, int line) {
    tokens_.take();
    ScopeStatement node;
    while (!tokens_.at(JinjaTokenKind::BlockEnd)) {
      if (!node.assignments.empty()) {
        tokens_.expect_symbol(",");
      }
      JinjaTarget target = parse_one_target(false);
      tokens_.expect_symbol("=");
      node.assignments.emplace_back(std::move(target), expressions_.parse());
    }
    end_tag();
    node.body = parse_block({"endwith"});
    close_tag();
    block.push_back({std::move(node), line});
  }

  void parse_generation(JinjaBlock& block, int line) {
    close_tag();
    ScopeStatement node;
    node.body = parse_body_outside_loops("endgeneration");
    block.push_back({std::move(node), line});
  }

  void parse_filter(JinjaBlock& block, int line) {
    tokens_.take();
    FilterStatement node;
    node.filter = expressions_.parse_filters(nullptr);
    end_tag();
    node.body = parse_block({"endfilter"});
    close_tag();
    block.push_back({std::move(node), line});
  }

  JinjaTokenStream tokens_;
  JinjaExpressionParser expressions_;
  int nesting_ = 0;
  int loops_ = 0;  // loops around the current statement that break would leave
};

}  // namespace

JinjaBlock parse_jinja(std::string_view source) {
  return StatementParser(source).run();
}

}  // namespace ssa
