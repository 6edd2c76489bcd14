package cli

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Format is how a result is printed, see docs/cli.md.
type Format string

// The formats of -o.
const (
	Table Format = "table"
	Wide  Format = "wide"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// machine reports whether programs read it: everything for people goes to
// stderr then.
func (f Format) machine() bool { return f == JSON || f == YAML }

// encodeMessage is the JSON of a protobuf message: field names as in the .proto
// file, every field present, 64-bit numbers as strings (the protobuf JSON
// mapping; a double would round them).
func encodeMessage(m proto.Message) ([]byte, error) {
	data, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	// protojson varies its white space on purpose; scripts and diffs like it stable.
	var buf bytes.Buffer
	if err := json.Compact(&buf, data); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return buf.Bytes(), nil
}

// encode turns compact JSON into the document that is printed. In a stream JSON
// is one line per document and YAML documents begin with "---".
func (f Format) encode(compact []byte, stream bool) ([]byte, error) {
	if f == YAML {
		doc, err := yaml.JSONToYAML(compact)
		if err != nil {
			return nil, fmt.Errorf("encode answer as YAML: %w", err)
		}
		if stream {
			doc = append([]byte("---\n"), doc...)
		}
		return doc, nil
	}
	if stream {
		return append(compact, '\n'), nil
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	buf.WriteByte('\n')
	return buf.Bytes(), nil
}

// Print writes m in the chosen format: text draws it for people.
func Print[M proto.Message](env *Env, g *Globals, m M, text func(*View, M)) error {
	f, err := draw(env, g.Output, m, text, false)
	if err != nil {
		return err
	}
	return f.write(env)
}

// PrintEach is Print for one element of an endless stream.
func PrintEach[M proto.Message](env *Env, g *Globals, m M, text func(*View, M)) error {
	f, err := draw(env, g.Output, m, text, true)
	if err != nil {
		return err
	}
	return f.write(env)
}

// PrintValue is Print for a value that is not a message of the API.
func PrintValue(env *Env, g *Globals, value any, text string) error {
	if !g.Output.machine() {
		_, err := fmt.Fprintln(env.Stdout, text)
		return err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	doc, err := g.Output.encode(data, false)
	if err != nil {
		return err
	}
	_, err = env.Stdout.Write(doc)
	return err
}

// frame is one rendering: what goes to stdout, and a remark for people.
type frame struct {
	out  []byte
	note string
}

func draw[M proto.Message](env *Env, format Format, m M, text func(*View, M), stream bool) (frame, error) {
	if format.machine() {
		data, err := encodeMessage(m)
		if err != nil {
			return frame{}, err
		}
		out, err := format.encode(data, stream)
		return frame{out: out}, err
	}
	v := &View{Wide: format == Wide, Now: env.Now()}
	text(v, m)
	return frame{v.buf.Bytes(), v.note}, nil
}

func (f frame) write(env *Env) error {
	if f.note != "" {
		fmt.Fprintln(env.Stderr, f.note)
	}
	if _, err := env.Stdout.Write(f.out); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
