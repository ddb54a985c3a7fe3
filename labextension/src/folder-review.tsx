// The dialog that shows what a folder's project files start and set, and takes the consent to this very content.
//
// It shows one content until it is closed or the server answers that the folder has another one by now. Then it shows that one, and
// its buttons pause, so that a second click does not allow what was not read.

import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { ApiError, CONFLICT } from './api';
import { IFormProps, showForm } from './dialog';
import { isAllowable, noteFolder } from './folders';
import { activityText, codePoint, UNSEEN, visibleText } from './labels';
import { Refusal } from './refusal';
import { summaryOf } from './rule-list';
import type { Autostart, IFolder, IFolderService, IPortsManager } from './tokens';

/** In ms. */
const PAUSE = 1000;

/** A text of a file. Characters that are not seen are named, so that none hides what a command does. */
export function Plain({ text }: { text: string }): React.JSX.Element {
  const unseen = text.match(UNSEEN) ?? [];
  return (
    <>
      {text.split(UNSEEN).map((part, index) => (
        <React.Fragment key={index}>
          {part}
          {index < unseen.length ? <span className="jp-PortProxy-unseen">{codePoint(unseen[index] ?? '')}</span> : null}
        </React.Fragment>
      ))}
    </>
  );
}

/** A command as a shell would take it. */
export function commandLine(command: readonly string[]): string {
  return command.map(word => (/^[\w@%+=:,./{}-]+$/.test(word) ? word : `'${word.replace(/'/g, `'\\''`)}'`)).join(' ');
}

/** Services in the order in which they are started: what one depends on comes before it. */
export function inOrder(services: readonly IFolderService[]): IFolderService[] {
  const ordered = new Set<IFolderService>();
  const visited = new Set<IFolderService>();
  const visit = (service: IFolderService) => {
    if (!visited.has(service)) {
      visited.add(service);
      services.filter(({ name }) => service.depends_on.includes(name)).forEach(visit);
      ordered.add(service);
    }
  };
  services.forEach(visit);
  return [...ordered];
}

function startText({ autostart, restart }: IFolderService, trans: TranslationBundle): string {
  const first = autostartText(autostart, trans);
  return restart === 'always' && autostart !== 'always' ? trans.__('%1; again after a restart of the server', first) : first;
}

function autostartText(autostart: Autostart, trans: TranslationBundle): string {
  switch (autostart) {
    case 'always':
      return trans.__('with the server, without a question');
    case 'ask':
      return trans.__('after a question, when the folder is opened');
    case 'never':
      return trans.__('when you start it');
  }
}

/** How a service keeps the server from being ended as idle; empty for the default. */
function activityOf({ activity = 'all', running_is_activity }: IFolderService, trans: TranslationBundle): string {
  const running = running_is_activity ? trans.__('The server is active while it runs') : '';
  return [activity === 'all' ? '' : activityText(activity, trans), running].filter(Boolean).join('; ');
}

interface IContentProps {
  folder: IFolder;
  trans: TranslationBundle;
}

/** What the project files say. */
export function FolderContent({ folder, trans }: IContentProps): React.JSX.Element {
  const { services, ports, problems, notes } = folder;
  return (
    <div className="jp-PortProxy-review" tabIndex={0} role="region" aria-label={trans.__('What the folder starts and sets')}>
      <p>
        <Plain text={folder.folder} />: <Plain text={folder.files.map(({ path }) => path).join(', ')} />
      </p>
      {services.length ? (
        <ol aria-label={trans.__('Services')}>
          {inOrder(services).map(service => (
            <li key={service.name}>
              <ServiceContent {...{ service, trans }} />
            </li>
          ))}
        </ol>
      ) : null}
      {ports.length ? (
        <>
          <h3>{trans.__('Ports')}</h3>
          <ul aria-label={trans.__('Ports')}>
            {ports.map(rule => (
              <li key={rule.id}>
                <Plain text={[rule.ports ?? rule.process ?? '', summaryOf(rule, trans)].filter(Boolean).join(': ')} />
              </li>
            ))}
          </ul>
        </>
      ) : null}
      {problems.length ? (
        <>
          <h3>{trans.__('Left out, because they are wrong')}</h3>
          <ul aria-label={trans.__('Left out, because they are wrong')}>
            {problems.map((problem, index) => (
              <li key={index}>
                <Plain text={[placeOf(problem), problem.key, problem.message, problem.hint].filter(Boolean).join(' ')} />
              </li>
            ))}
          </ul>
        </>
      ) : null}
      {notes.length ? (
        <details>
          <summary>{trans._n('%1 note', '%1 notes', notes.length)}</summary>
          <ul aria-label={trans.__('Notes')}>
            {notes.map((note, index) => (
              <li key={index}>
                <Plain text={`${placeOf(note)} ${note.message}`} />
              </li>
            ))}
          </ul>
        </details>
      ) : null}
    </div>
  );
}

function ServiceContent({ service, trans }: { service: IFolderService; trans: TranslationBundle }): React.JSX.Element {
  const { command, cwd, environment, environment_file, kernel, depends_on } = service;
  const facts: [string, string][] = [
    [trans.__('Folder'), cwd],
    [trans.__('Variables'), commandLine(Object.entries(environment).map(pair => pair.join('=')))],
    [trans.__('Variables of'), environment_file],
    [trans.__('Environment of the kernel'), kernel],
    [trans.__('After'), depends_on.join(', ')],
    [trans.__('Starts'), startText(service, trans)],
    [trans.__('Activity'), activityOf(service, trans)],
    [trans.__('No activity'), commandLine(service.activity_exclude ?? [])]
  ];
  return (
    <>
      <strong>
        <Plain text={service.name} />
      </strong>
      <code>
        <Plain text={commandLine(command)} />
      </code>
      <dl>
        {facts
          .filter(([, text]) => text)
          .map(([label, text]) => (
            <div key={label}>
              <dt>{label}</dt>
              <dd>
                <Plain text={text} />
              </dd>
            </div>
          ))}
      </dl>
    </>
  );
}

function placeOf({ file, line }: { file: string; line: number | null }): string {
  return line === null ? `${file}:` : `${file}:${line}:`;
}

/** The content that a dialog shows now. */
interface IShown {
  folder: IFolder;
  replace: (folder: IFolder) => void;
}

interface IReviewProps extends IFormProps<IFolder> {
  shown: IShown;
  trans: TranslationBundle;
}

function Review({ shown, problem, trans, onChange }: IReviewProps): React.JSX.Element {
  const [folder, setFolder] = React.useState(shown.folder);
  const [isPaused, setPaused] = React.useState(false);
  React.useLayoutEffect(() => {
    shown.replace = changed => {
      setFolder(changed);
      setPaused(true);
    };
  }, []);
  React.useLayoutEffect(() => onChange(folder, !isPaused && isAllowable(folder), !isPaused), [folder, isPaused]);
  React.useEffect(() => {
    const timer = isPaused ? setTimeout(() => setPaused(false), PAUSE) : undefined;
    return () => clearTimeout(timer);
  }, [folder, isPaused]);
  return (
    <>
      <Refusal text={problem} />
      <FolderContent {...{ folder, trans }} />
    </>
  );
}

/** Shows what a folder starts; resolves when the dialog is closed. */
export async function showReview(folder: IFolder, manager: IPortsManager, trans: TranslationBundle): Promise<void> {
  const name = visibleText(folder.name);
  if (!isAllowable(folder)) {
    const body = ReactWidget.create(<FolderContent {...{ folder, trans }} />);
    await showDialog({ title: trans.__('The project files of %1', name), body, buttons: [Dialog.okButton({ label: trans.__('Close') })] });
    return;
  }
  const shown: IShown = { folder, replace: () => undefined };
  /** Does something with the content that was shown; if the folder has another one by now, shows that one. */
  const withShown = (act: (reviewed: IFolder) => Promise<unknown>) => async (reviewed: IFolder) => {
    try {
      await act(reviewed);
    } catch (error) {
      if (error instanceof ApiError && error.status === CONFLICT) {
        const changed = await manager.readFolder(reviewed);
        if (changed && changed.digest !== reviewed.digest) {
          shown.replace(changed);
          throw new ApiError(CONFLICT, trans.__('The files have changed while this dialog was open. Review what they say now.'));
        }
      }
      throw error;
    }
  };
  const allow = (reviewed: IFolder) => {
    noteFolder({ ...reviewed, consent: 'given' }); // the answer is given: no notice asks again
    return manager.giveConsent(reviewed);
  };
  const start = (reviewed: IFolder) => manager.startFolder(reviewed);
  const common = {
    focused: '.jp-PortProxy-review',
    isCautious: true,
    form: (props: IFormProps<IFolder>) => <Review {...{ shown, trans }} {...props} />
  };
  if (folder.consent === 'given') {
    await showForm<IFolder>({
      ...common,
      title: trans.__('What %1 starts', name),
      cancel: trans.__('Close'),
      accept: trans.__('Start all'),
      submit: withShown(start),
      removal: { label: trans.__('Disallow and stop'), remove: async reviewed => void (await manager.withdrawConsent(reviewed)) }
    });
    return;
  }
  const allowAndStart = async (reviewed: IFolder) => {
    await allow(reviewed);
    await start(reviewed);
  };
  await showForm<IFolder>({
    ...common,
    title: trans.__('Allow what %1 starts and sets?', name),
    cancel: trans.__('Not now'),
    ...(folder.services.length
      ? { accept: trans.__('Allow and start'), submit: withShown(allowAndStart), alternative: { label: trans.__('Allow'), submit: withShown(allow) } }
      : { accept: trans.__('Allow'), submit: withShown(allow) })
  });
}
