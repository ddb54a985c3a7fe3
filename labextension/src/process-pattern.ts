// Patterns for processes: regular expressions that are matched in linear time. Pure: no widgets, no requests.
//
// The browser's own `RegExp` backtracks, so that `(a+)+$` may stop the page for years. Here a pattern becomes an automaton whose possible
// states advance together, one character after the other (Thompson's construction). A search takes at most MAX_SIZE steps a character.
// What needs backtracking is refused: look-around and references to groups. The server refuses the same (services/process_pattern.py).

/** Characters of a pattern when its repetitions are written out. */
export const MAX_SIZE = 300;
/** Characters of a text that are searched. */
export const MAX_TEXT = 4096;

export interface IPatternProblem {
  kind: 'syntax' | 'unsupported' | 'size';
  /** The part that is unsupported, such as `(?=`. */
  part: string;
}

interface IState {
  /** The search step that has reached this state already. */
  step: number;
  /** A state without it leads on at once. */
  matches?: (character: string) => boolean;
  /** A condition on the characters around this place; undefined is an end of the text. */
  holds?: (before: string | undefined, after: string | undefined) => boolean;
  next: IState[];
}

/** A part of a pattern: `link` makes its states, which lead to `next`, and returns the first one. */
interface IPart {
  size: number;
  isRepeatable: boolean;
  link: (next: IState) => IState;
}

const GROUP = /\(\?(?!:).?/suy;
const QUANTIFIER = /(?:[*+?]|\{(?!\})(\d*)(,?)(\d*)\})\??/uy;
const CLASS = /\[\^?\]?(?:\\.|[^\]\\])*\]/suy;
/** With `u`, a class has no other escapes. */
const NEEDLESS_ESCAPE = /(\\\\)|\\([^A-Za-z\d^$\\.*+?()[\]{}|/-])/gu;
const UNSUPPORTED_ESCAPE = /\\(?![dDwWsSbB])[A-Za-z\d]/u;
const isWord = (character: string | undefined) => character !== undefined && /\w/.test(character);

class Refused extends Error {
  constructor(readonly problem: IPatternProblem) {
    super(problem.kind);
  }
}

/** A pattern, or what is wrong with it. */
export function compilePattern(source: string): { pattern?: ProcessPattern; problem?: IPatternProblem } {
  try {
    return { pattern: new ProcessPattern(source) };
  } catch (error) {
    if (error instanceof Refused) {
      return { problem: error.problem };
    }
    throw error;
  }
}

export class ProcessPattern {
  constructor(source: string) {
    this._start = new Parser(source).parse().link(this._end);
    this._isAnchored = !['x', ' '].some(before => ['x', ' ', undefined].some(after => this._canBegin(before, after)));
  }

  /** Whether the pattern matches anywhere in the first MAX_TEXT characters of a text. */
  matches(text: string): boolean {
    let states = [this._start];
    let before: string | undefined;
    let length = 0;
    for (const after of text) {
      if (length++ === MAX_TEXT || !states.length) {
        break;
      }
      const waiting = this._advance(states, before, after);
      if (this._end.step === this._step) {
        return true;
      }
      states = this._isAnchored ? [] : [this._start];
      for (const state of waiting) {
        if (state.matches?.(after)) {
          states.push(state.next[0]!);
        }
      }
      before = after;
    }
    this._advance(states, before, undefined);
    return this._end.step === this._step;
  }

  /** Whether the start leads on between these characters. */
  private _canBegin(before: string, after: string | undefined): boolean {
    return this._advance([this._start], before, after).length > 0 || this._end.step === this._step;
  }

  /** The states that wait for the next character, from those given, which it consumes. */
  private _advance(pending: IState[], before: string | undefined, after: string | undefined): IState[] {
    const waiting: IState[] = [];
    this._step++;
    for (let state = pending.pop(); state; state = pending.pop()) {
      if (state.step === this._step || (state.holds && !state.holds(before, after))) {
        continue;
      }
      state.step = this._step;
      if (state.matches) {
        waiting.push(state);
      } else {
        for (const next of state.next) {
          pending.push(next);
        }
      }
    }
    return waiting;
  }

  private readonly _start: IState;
  private readonly _end: IState = { step: 0, next: [] };
  /** It can begin to match only where a text begins. */
  private readonly _isAnchored: boolean;
  private _step = 0;
}

/** Parses what Python's `re` and the browser's `RegExp` understand alike; `(?i)` at the start ignores case. */
class Parser {
  constructor(private readonly _source: string) {}

  parse(): IPart {
    if (this._source.startsWith('(?i)')) {
      this._ignoresCase = true;
      this._index = 4;
    }
    const pattern = this._choice();
    if (this._index < this._source.length) {
      throw new Refused({ kind: 'syntax', part: ')' });
    }
    return pattern;
  }

  private _choice(): IPart {
    const options = [this._sequence()];
    while (this._take('|')) {
      options.push(this._sequence());
    }
    return this._checkSize({
      size: options.reduce((sum, { size }) => sum + size, 0),
      isRepeatable: true,
      link: next => (options.length > 1 ? { step: 0, next: options.map(option => option.link(next)) } : options[0]!.link(next))
    });
  }

  private _sequence(): IPart {
    const parts: IPart[] = [];
    while (this._index < this._source.length && !'|)'.includes(this._source[this._index]!)) {
      parts.push(this._repeated(this._atom()));
    }
    const size = Math.max(
      1,
      parts.reduce((sum, part) => sum + part.size, 0)
    );
    return this._checkSize({ size, isRepeatable: true, link: next => parts.reduceRight((after, part) => part.link(after), next) });
  }

  private _repeated(part: IPart): IPart {
    const [quantifier, low = '', comma = '', high = ''] = this._match(QUANTIFIER) ?? [];
    if (!quantifier) {
      return part;
    }
    if (!part.isRepeatable || this._match(QUANTIFIER)) {
      throw new Refused({ kind: 'syntax', part: quantifier });
    }
    const isCounted = quantifier.startsWith('{');
    const min = isCounted ? Number(low) : quantifier.startsWith('+') ? 1 : 0;
    const most = comma ? (high ? Number(high) : Infinity) : Number(low);
    const max = isCounted ? most : quantifier.startsWith('?') ? 1 : Infinity;
    if (min > max) {
      throw new Refused({ kind: 'syntax', part: quantifier });
    }
    const copies = max === Infinity ? min + 1 : max;
    const size = part.size * Math.max(1, copies);
    return this._checkSize({ size, isRepeatable: true, link: next => repeat(part, min, max, next) });
  }

  private _atom(): IPart {
    const quantifier = this._match(QUANTIFIER)?.[0];
    if (quantifier) {
      throw new Refused({ kind: 'syntax', part: quantifier });
    }
    const group = this._match(GROUP)?.[0];
    if (group) {
      throw new Refused({ kind: 'unsupported', part: group });
    }
    if (this._take('(?:') || this._take('(')) {
      const inner = this._choice();
      if (!this._take(')')) {
        throw new Refused({ kind: 'syntax', part: '(' });
      }
      return inner;
    }
    const characterClass = this._match(CLASS)?.[0];
    if (characterClass) {
      return this._class(characterClass.replace(/^(\[\^?)\]/, '$1\\]'));
    }
    const character = String.fromCodePoint(this._source.codePointAt(this._index)!);
    this._index += character.length;
    switch (character) {
      case '\\':
        return this._escape();
      case '.':
        return one(found => found !== '\n');
      case '^':
        return assertion(before => before === undefined);
      case '$':
        return assertion((_, after) => after === undefined);
      case '[':
        throw new Refused({ kind: 'syntax', part: character });
      default:
        return this._literal(character);
    }
  }

  private _escape(): IPart {
    const point = this._source.codePointAt(this._index);
    if (point === undefined) {
      throw new Refused({ kind: 'syntax', part: '\\' });
    }
    const character = String.fromCodePoint(point);
    this._index += character.length;
    if (UNSUPPORTED_ESCAPE.test(`\\${character}`)) {
      throw new Refused({ kind: 'unsupported', part: `\\${character}` });
    }
    if (character === 'b' || character === 'B') {
      return assertion((before, after) => (isWord(before) !== isWord(after)) === (character === 'b'));
    }
    return /[dDwWsS]/.test(character) ? this._class(`[\\${character}]`) : this._literal(character);
  }

  private _literal(character: string): IPart {
    const [lower, upper] = this._ignoresCase ? [character.toLowerCase(), character.toUpperCase()] : [character, character];
    return one(found => found === character || found === lower || found === upper);
  }

  /** The browser's own class: to match one character is a single step. */
  private _class(source: string): IPart {
    const part = UNSUPPORTED_ESCAPE.exec(source.replace(/\\\\/g, ''))?.[0];
    if (part) {
      throw new Refused({ kind: 'unsupported', part });
    }
    try {
      const found = new RegExp(source.replace(NEEDLESS_ESCAPE, '$1$2'), this._ignoresCase ? 'iu' : 'u');
      return one(character => found.test(character));
    } catch {
      throw new Refused({ kind: 'syntax', part: source });
    }
  }

  /** Throws before the states are made: `((a{999}){999}){999}` has a billion. */
  private _checkSize(part: IPart): IPart {
    if (part.size > MAX_SIZE) {
      throw new Refused({ kind: 'size', part: '' });
    }
    return part;
  }

  private _take(text: string): boolean {
    const isNext = this._source.startsWith(text, this._index);
    this._index += isNext ? text.length : 0;
    return isNext;
  }

  private _match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this._index;
    const found = pattern.exec(this._source);
    this._index += found?.[0].length ?? 0;
    return found;
  }

  private _index = 0;
  private _ignoresCase = false;
}

function one(matches: (character: string) => boolean): IPart {
  return { size: 1, isRepeatable: true, link: next => ({ step: 0, matches, next: [next] }) };
}

function assertion(holds: NonNullable<IState['holds']>): IPart {
  return { size: 1, isRepeatable: false, link: next => ({ step: 0, holds, next: [next] }) };
}

/** Links the copies of a repetition, from the last one back. */
function repeat(part: IPart, min: number, max: number, next: IState): IState {
  let first = next;
  if (max === Infinity) {
    first = { step: 0, next: [next] };
    first.next.push(part.link(first));
  }
  for (let copy = max === Infinity ? min : max; copy > 0; copy--) {
    const inner = part.link(first);
    first = copy > min ? { step: 0, next: [inner, next] } : inner;
  }
  return first;
}
