// What a look at a page has shown, and its texts. Pure functions.

import type { TranslationBundle } from '@jupyterlab/translation';

import type { Target } from './commands';
import { visibleText } from './labels';
import { absoluteUrl } from './urls';

/** The schema `Finding` of docs/openapi.yaml. */
export interface IFinding {
  rule: string;
  severity: 'error' | 'warning' | 'notice';
  title: string;
  sentence: string;
  evidence: { file: string; line: number | null; field: string; excerpt: string };
  remedies: string[];
  link: string | null;
  documentation: string;
}

/** The schema `Diagnosis`. */
export interface IDiagnosis {
  target: string;
  url: string;
  status: number;
  requests: number;
  problem: string | null;
  findings: IFinding[];
  notes: string[];
}

export function severityText(severity: IFinding['severity'], trans: TranslationBundle): string {
  switch (severity) {
    case 'error':
      return trans.__('Error');
    case 'warning':
      return trans.__('Warning');
    case 'notice':
      return trans.__('Notice');
  }
}

/** Where it was seen: `/app.js:12`, or a response and its field. */
export function placeText({ evidence }: IFinding, trans: TranslationBundle): string {
  const file = visibleText(evidence.file);
  const place = evidence.line === null ? file : `${file}:${evidence.line}`;
  return evidence.field ? trans.__('%1, field %2', place, visibleText(evidence.field)) : place;
}

/** The address of a link that the server has given; undefined if it leads to no page. */
export function addressOf(link: string | null): string | undefined {
  try {
    const address = link ? absoluteUrl(link) : '';
    return /^https?:/.test(address) ? address : undefined;
  } catch {
    return undefined;
  }
}

/** The sentence above the findings. */
export function summaryOf(report: IDiagnosis, trans: TranslationBundle): string {
  const { findings, problem, requests, url, status } = report;
  if (problem) {
    return problem;
  }
  if (findings.length) {
    return trans._n('%1 finding.', '%1 findings, the worst first.', findings.length);
  }
  const answered = status ? trans.__('It answered with status %1.', status) : '';
  return `${trans.__('Nothing wrong was found. %1 requests were made, direct and through Jupyter: for %2 and what it loads.', requests, url)} ${answered}`.trim();
}

/** The path of a page as the server takes it: in ASCII, without a fragment. */
export function pagePath(text: string): string {
  const { pathname, search } = new URL(`http://page${text.startsWith('/') ? '' : '/'}${text}`);
  return pathname + search;
}

/** What a link of the gateway's pages names: `8050`, or `dash/login`; undefined if that is neither a port nor the name of a service. */
export function parseLink(text: string): { target: Target; path: string } | undefined {
  const [, name = '', path] = /^([A-Za-z0-9][\w.-]{0,127})(\/.*)?$/.exec(text) ?? [];
  if (!/^\d+$/.test(name)) {
    return name ? { target: { service: name }, path: path ?? '/' } : undefined;
  }
  return /^[1-9]\d{0,4}$/.test(name) && Number(name) <= 65535 ? { target: { port: Number(name) }, path: path ?? '/' } : undefined;
}

/** All of it as plain text. */
export function reportText(report: IDiagnosis, trans: TranslationBundle): string {
  const findings = report.findings.flatMap((finding, index) => [
    '',
    `${index + 1}. ${severityText(finding.severity, trans)}: ${finding.sentence}`,
    `  ${trans.__('at %1', placeText(finding, trans))}`,
    ...visibleLines(finding.evidence.excerpt).map(line => `     ${line}`),
    ...finding.remedies.map(remedy => `  -> ${remedy}`),
    ...[addressOf(finding.link), finding.documentation].filter(Boolean).map(url => `     ${url}`)
  ]);
  const notes = report.notes.flatMap(note => ['', trans.__('Note: %1', note)]);
  return [absoluteUrl(report.url), summaryOf(report, trans), ...findings, ...notes, ''].join('\n');
}

/** The lines of an excerpt, in which every character is seen. */
export function visibleLines(excerpt: string): string[] {
  return excerpt ? excerpt.split(/\r?\n/).map(line => visibleText(line.replace(/\t/g, '  '))) : [];
}
