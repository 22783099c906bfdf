/** A dialog above everything: it holds the focus, and Esc or a click beside it dismisses it unless it must be answered. */
import type { ReactNode } from "react";
import { Dialog as AriaDialog, Heading, Modal, ModalOverlay } from "react-aria-components";

export function Dialog({ title, isOpen, onClose, children, alert }: {
  title: string;
  isOpen: boolean;
  onClose?: () => void;
  children: ReactNode;
  alert?: boolean;
}) {
  return (
    <ModalOverlay
      className="overlay"
      isOpen={isOpen}
      isDismissable={onClose !== undefined}
      isKeyboardDismissDisabled={onClose === undefined}
      onOpenChange={(open) => {
        if (!open) onClose?.();
      }}
    >
      <Modal className="modal">
        <AriaDialog role={alert ? "alertdialog" : "dialog"} className="dialog">
          <Heading slot="title" level={2}>
            {title}
          </Heading>
          {children}
        </AriaDialog>
      </Modal>
    </ModalOverlay>
  );
}
