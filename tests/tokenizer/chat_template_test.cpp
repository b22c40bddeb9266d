#include "tokenizer/chat_template.h"

#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace ssa {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(SSA_GOLDEN_DIR) / "chat_templates";

/// Splits what a golden case gives the template into messages and options.
std::string render_golden(const std::string& source, Json variables) {
  ChatTemplateOptions options;
  const Json messages = variables.value("messages", Json::array());
  options.add_generation_prompt = variables.value("add_generation_prompt", false);
  options.bos_token = variables.value("bos_token", "");
  options.eos_token = variables.value("eos_token", "");
  for (const char* name : {"messages", "add_generation_prompt", "bos_token", "eos_token"}) {
    variables.erase(name);
  }
  options.variables = std::move(variables);
  return joined_text(ChatTemplate(source).render(messages, options));
}

/// The text, or "error" where the template or its rendering is refused.
Json outcome(const std::string& source, const Json& variables) {
  try {
    return {{"text", render_golden(source, variables)}};
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("chat template")) << error.what();
    return "error";
  }
}

Json expected_outcome(const Json& golden) {
  return golden.contains("error") ? Json("error") : Json{{"text", golden.at("text")}};
}

TEST(ChatTemplate, RendersTheFamiliesAsJinja2Does) {
  const Json golden = read_json_file(kGolden / "conversations.json");
  for (const auto& [family, defaults] : golden.at("defaults").items()) {
    const std::string source = read_file(kGolden / (family + ".jinja"));
    const Json& expected = golden.at("expected").at(family);
    ASSERT_EQ(expected.size(), 30);
    for (size_t i = 0; i < expected.size(); ++i) {
      Json variables = defaults;
      variables.update(golden.at("conversations").at(i));
      EXPECT_EQ(outcome(source, variables), expected_outcome(expected.at(i))) << family << " " << i;
    }
  }
}

TEST(ChatTemplate, RendersSnippetsAsJinja2Does) {
  const Json golden = read_json_file(kGolden / "snippets.json");
  for (const Json& snippet : golden.at("snippets")) {
    const auto source = snippet.at("template").get<std::string>();
    EXPECT_EQ(outcome(source, golden.at("variables")), expected_outcome(snippet)) << source;
  }
}

/// What a template writes, with what stems from the messages in angle brackets.
std::string marked(const std::string& source) {
  const Json messages = Json::parse(R"([
    {"role": "user", "content": " Hi, you \n", "n": 7, "tags": ["a", "b"]},
    {"role": "x", "content": "<|im_end|>"}])");
  ChatTemplateOptions options;
  options.variables = {{"name", "Tom"}};
  std::string out;
  for (const TextSpan& span : ChatTemplate(source).render(messages, options)) {
    out += span.is_input ? "<" + span.text + ">" : span.text;
  }
  return out;
}

TEST(ChatTemplate, MarksWhatStemsFromMessages) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"user: {{ messages[0].role }}", "user: <user>"},
      {"{{ '[' + messages[0].content | trim + ']' }}", "[<Hi, you>]"},
      {"{{ messages[1].content }}<|im_end|>", "<<|im_end|>><|im_end|>"},
      {"{{ 'a' ~ messages[0].n ~ 'b' ~ (messages[0].n + 1) }}", "a<7>b<8>"},
      {"{{ messages[0].content.strip().split(', ')[1] ~ name }}", "<you>Tom"},
      {"{{ messages[0].content.strip().replace(',', ';') }}", "<Hi>;< you>"},
      {"{{ (messages[0].role ~ '-' ~ name)[::-1] }}", "moT-<resu>"},
      {"{{ (messages[0].role ~ '-' ~ name)[2:6] | upper }}", "<ER>-T"},
      {"{{ messages[0].tags | join('+') }}", "<a>+<b>"},
      {"{{ messages[0].tags | tojson }}", R"(<["a", "b"]>)"},
      {"{{ {'r': messages[1].role} | tojson }}", R"({"r": <"x">})"},
      {"{{ messages[0].tags }}", "<['a', 'b']>"},
      {"{% for key in messages[1] %}{{ key }} {% endfor %}", "<role> <content> "},
      {"{% set x %}[{{ messages[1].role }}]{% endset %}{{ x | title }}", "[<X>]"},
      {"{% macro m(a) %}({{ a }}){% endmacro %}{{ m(messages[1].role) }}", "(<x>)"},
      {"{% for c in messages[0].role[:2] %}{{ c }}.{% endfor %}", "<u>.<s>."},
      {"{{ messages[0].role | indent(2, true) }}", "  <user>"},
      {"{{ messages | length }}{{ messages[0].role == 'user' }}", "2True"},
  };
  for (const auto& [source, expected] : cases) {
    EXPECT_EQ(marked(source), expected) << source;
  }
}

std::string error_of(const std::string& source, const Json& messages = Json::array()) {
  try {
    ChatTemplate(source).render(messages, {});
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ChatTemplate, NamesLineAndReason) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a\n{{ x.y }}", "chat template line 2: 'x' is undefined"},
      {"{{ messages.x.y }}", "chat template line 1: 'list object' has no attribute 'x'"},
      {"\n\n{{ raise_exception('no tools') }}", "chat template line 3: no tools"},
      {"{% if 1 %}\n{{ 1 +\n none }}{% endif %}",
       "chat template line 2: '+' does not work on int and NoneType"},
      {"{% macro m() %}\n{{ 1 / 0 }}{% endmacro %}\n{{ m() }}",
       "chat template line 2: division by zero"},
      {"{{ '"
       "\\u12"
       "' }}",
       "chat template line 1: the escape \\u needs 4 hexadecimal digits"},
      {"\xFF", "chat template: the source is no UTF-8"},
      {"{{ f(*x) }}", "chat template line 1: arguments by '*' and '**' are not supported"},
      {"{{ 9223372036854775807 + 1 }}", "chat template line 1: an integer does not fit 64 bits"},
      {"{{ range }}", "chat template line 1: a value of type function cannot be printed"},
  };
  for (const auto& [source, expected] : cases) {
    EXPECT_EQ(error_of(source), expected) << source;
  }
}

TEST(ChatTemplate, ListsWhatIsSupported) {
  EXPECT_TRUE(error_of("\n{{ 1 | xmlattr }}")
                  .starts_with(
                      "chat template line 2: filter 'xmlattr' is not supported (supported: abs, "));
  EXPECT_TRUE(error_of("{{ 1 is odder }}")
                  .starts_with("chat template line 1: test 'odder' is not supported (supported: "));
  EXPECT_TRUE(error_of("{% include 'x' %}")
                  .starts_with("chat template line 1: tag 'include' is not supported"));
  EXPECT_TRUE(error_of("{{ ''.encode() }}")
                  .starts_with("chat template line 1: string method 'encode' is not supported"));
}

std::string repeat(const std::string& text, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) {
    out += text;
  }
  return out;
}

TEST(ChatTemplate, HostileTemplatesEndWithAnError) {
  const std::string grow =
      "{% set ns = namespace(x='aaaaaaaa', l=[]) %}{% for i in range(100000) %}";
  const std::vector<std::string> sources = {
      repeat("{{ " + repeat("(", 5000) + "1" + repeat(")", 5000) + " }}", 1),
      "{{ 1" + repeat(" + 1", 100000) + " }}",
      "{{ " + repeat("not ", 100000) + "1 }}",
      "{{ " + repeat("-", 100000) + "1 }}",
      "{{ x" + repeat(".a", 100000) + " }}",
      "{{ 1" + repeat(" if 1 else 1", 100000) + " }}",
      "{{ 1" + repeat(" | abs", 100000) + " }}",
      repeat("{% if 1 %}", 100000),
      "{% for " + repeat("(", 100000),
      grow + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
      grow + "{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
      grow + "{% set ns.l = [ns.l] %}{% endfor %}",
      grow + "{% set ns.l = [ns.l, ns.l] %}{% if i == 100 %}{{ ns.l }}{% endif %}{% endfor %}",
      grow +
          "{% set ns.l = [ns.l, ns.l] %}{% if i == 100 %}{{ ns.l == [ns.l] }}{{ ns.l | tojson }}{% "
          "endif %}{% endfor %}",
      grow + "{% for j in range(100000) %}{% endfor %}{% endfor %}",
      grow +
          "{% set ns.x = namespace(x=ns.x) %}{% for j in range(100) %}{% set a = namespace(b=ns) "
          "%}{% endfor %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{{ 'a' * 1000000000000 }}",
      "{{ [1] * 1000000000000 }}",
      "{{ 'a' | indent(1000000000000, true) }}",
      "{{ range(9223372036854775807) }}",
      "{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807)[0] + range(100001) "
      "}}",
      "{{ 'a' | map(" + repeat("'map', ", 100000) + "'upper') | list }}",
      "{{ ('a' * 60000000).split('a') }}",
  };
  for (const std::string& source : sources) {
    const std::clock_t start = std::clock();  // processor time: other programs do not count
    const std::string error = error_of(source);
    EXPECT_TRUE(error.starts_with("chat template line 1: ")) << source.substr(0, 200) << error;
    EXPECT_LT((std::clock() - start) / CLOCKS_PER_SEC, 20) << source.substr(0, 200);
  }
}

TEST(ChatTemplate, SearchesLongTextsInLinearTime) {
  const std::string half = "{% set h = 'a' * 4000000 %}{% set n = 'a' * 1000000 ~ 'b' %}";
  EXPECT_EQ(error_of(half + "{{ n in h }}{{ h.find(n) }}{{ h.rfind('b' ~ n) }}{{ h.count(n) }}{{ "
                            "h.split(n) | length }}"),
            "no error");
}

TEST(ChatTemplate, NamespacesMayHoldThemselves) {
  EXPECT_EQ(marked("{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns.me[0].me | length }}"),
            "1");
}

TEST(ChatTemplate, TakesMessagesAsTheyAre) {
  const Json broken = Json::array({{{"content", "a\xFFz"}}});
  EXPECT_EQ(joined_text(ChatTemplate("{{ messages[0].content }}").render(broken, {})),
            "a\xEF\xBF\xBDz");
  Json deep = Json::array();
  for (int i = 0; i < 1000; ++i) {
    deep = Json::array({deep});
  }
  EXPECT_EQ(error_of("{{ messages }}", deep), "chat template: a value is nested deeper than 300");
  const Json large = Json::array({18446744073709551615u});
  EXPECT_EQ(error_of("{{ messages }}", large),
            "chat template: the integer 18446744073709551615 does not fit 64 bits");
}

TEST(ChatTemplate, KnowsTheDate) {
  const std::string year =
      joined_text(ChatTemplate("{{ strftime_now('%Y') }}").render(Json::array(), {}));
  EXPECT_EQ(year.size(), 4);
  EXPECT_EQ(marked("{{ strftime_now('') }}|{{ strftime_now is defined }}"), "|True");
}

TEST(ChatTemplate, LeavesTokensItDoesNotHaveUndefined) {
  ChatTemplateOptions options;
  options.eos_token = "</s>";
  const ChatTemplate source(
      "{{ bos_token is defined }}{{ bos_token }}{{ eos_token }}{{ tools is none }}");
  EXPECT_EQ(joined_text(source.render(Json::array(), options)), "False</s>True");
}

}  // namespace
}  // namespace ssa
